/* Vector table and reset handler of the MPS2 and MPS3 boards. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

#include "hal.h"
#include "mps2.h"

/* Of mps2.ld. */
extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;

int main(int argc, char **argv);
void start_reset(void) __attribute__((noreturn));

static void fault(void)
{
    hal_reset();
}

static void enable_fpu(void)
{
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to CP10 and CP11 */
    __asm volatile("dsb\n isb");
#endif
}

void start_reset(void)
{
    enable_fpu();
    memcpy(&data_start, &data_load, (size_t)((uintptr_t)&data_end - (uintptr_t)&data_start));
    memset(&bss_start, 0, (size_t)((uintptr_t)&bss_end - (uintptr_t)&bss_start));
    (void)main(0, NULL);
    hal_reset();
}

typedef void (*handler_t)(void);

typedef struct {
    uint32_t *stack;
    handler_t system[15];
    handler_t interrupt[MPS2_UART_IRQ + 1];
} vectors_t;

/* UART 0 is the only one that is ever enabled. */
const vectors_t vectors __attribute__((section(".vectors"), used)) = {
    .stack = &stack_top,
    .system = {start_reset, fault, fault, fault, fault, fault, NULL, NULL, NULL, NULL, fault, fault, NULL, fault,
               mps2_systick},
    .interrupt = {[MPS2_UART_IRQ] = mps2_uart_rx},
};
