/* The HAL's flash for emulated boards: memory on which a driver enforces what NOR flash allows. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "nor_flash.h"

#include <string.h>

#include "hal.h"

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
    if (page_offset % NOR_FLASH_PAGE != 0 || page_offset >= NOR_FLASH_BYTES)
        return -1;
    memset(nor_flash_memory() + page_offset, 0xFF, NOR_FLASH_PAGE);
    return nor_flash_save(page_offset, NOR_FLASH_PAGE);
}

int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes)
{
    const uint8_t *source = from;
    volatile uint8_t *flash = nor_flash_memory();
    if (offset % HAL_FLASH_UNIT != 0 || bytes % HAL_FLASH_UNIT != 0 || offset > NOR_FLASH_BYTES ||
        bytes > NOR_FLASH_BYTES - offset)
        return -1;
    for (uint32_t i = 0; i < bytes; i++)
        flash[offset + i] = flash[offset + i] & source[i]; /* NOR: a program clears bits */
    return nor_flash_save(offset, bytes);
}
