/* The HAL's flash for emulated boards: memory on which a driver enforces what NOR flash allows. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "nor_flash.h"

#include "hal.h"
#include "nor_rules.h"

/* For ports whose area is no copy. */
__attribute__((weak)) int nor_flash_save(uint32_t offset, uint32_t bytes)
{
    (void)offset;
    (void)bytes;
    return 0;
}

uint32_t hal_flash_bytes(void)
{
    return NOR_FLASH_BYTES;
}

uint32_t hal_flash_page_bytes(void)
{
    return NOR_FLASH_PAGE;
}

const uint8_t *hal_flash(void)
{
    return nor_flash_memory();
}

int hal_flash_erase(uint32_t page_offset)
{
    if (nor_erase(nor_flash_memory(), NOR_FLASH_BYTES, NOR_FLASH_PAGE, page_offset) != 0)
        return -1;
    return nor_flash_save(page_offset, NOR_FLASH_PAGE);
}

int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes)
{
    if (nor_program(nor_flash_memory(), NOR_FLASH_BYTES, offset, from, bytes) != 0)
        return -1;
    return nor_flash_save(offset, bytes);
}
