/* Hook slots on a platform that has no memory for them: nothing is read, everything is refused. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hal.h"
#include "slots.h"

uint32_t hal_flash_bytes(void)
{
    return 0;
}

uint32_t hal_flash_page_bytes(void)
{
    return 4096;
}

const uint8_t *hal_flash(void)
{
    abort();
}

int hal_flash_erase(uint32_t page_offset)
{
    (void)page_offset;
    abort();
}

int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes)
{
    (void)offset;
    (void)from;
    (void)bytes;
    abort();
}

static bool attach(void *context, const void *bundle, uint32_t bytes, bool really)
{
    (void)context;
    (void)bundle;
    (void)bytes;
    (void)really;
    abort();
}

int main(void)
{
    static const uint8_t model[SLOT_HASH] = {'m'};
    slots_t slots;
    slot_info_t info = {.version = 1, .bytes = 1};
    uint32_t next = 0;
    memcpy(info.model_hash, model, SLOT_HASH);
    slots_start(&slots, model, attach, NULL);
    (void)printf("%u %d %d %d %d %d %d\n", slots_capacity(), slots.active, slots_begin(&slots, &info, &next),
                 slots_trial(&slots), slots_confirm(&slots), slots_revert(&slots), slots_state(&slots, 0, &info));
    return 0;
}
