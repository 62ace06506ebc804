/* A sensor whose readings are the ticks that loops of 2,000 to 2,000,000 instructions took. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "app.h"
#include "hal.h"

/* Two instructions per turn on every core. */
static void spin(uint32_t turns)
{
#if defined(__arm__)
    __asm volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(turns) : : "cc");
#else
    __asm volatile("1: addi %0, %0, -1\n bnez %0, 1b" : "+r"(turns));
#endif
}

int app_read_input(uint16_t index, int8_t *in, uint32_t bytes)
{
    uint32_t turns = 1000;
    (void)index;
    for (uint32_t i = 0; i + 4 <= bytes && i < 16; i += 4, turns *= 10) {
        uint32_t const before = hal_ticks();
        spin(turns);
        uint32_t const ticks = hal_ticks() - before;
        memcpy(in + i, &ticks, 4);
    }
    return 0;
}
