/* What erasing and programming NOR flash does to its content, for memory that stands for it. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NOR_RULES_H
#define NOR_RULES_H

#include <stdint.h>
#include <string.h>

#include "hal.h"

/* Both refuse (negative) what is not aligned or not within the `size` bytes. */
static inline int nor_erase(uint8_t *memory, uint32_t size, uint32_t page_bytes, uint32_t page_offset)
{
    if (page_offset % page_bytes != 0 || page_offset >= size)
        return -1;
    memset(memory + page_offset, 0xFF, page_bytes);
    return 0;
}

static inline int nor_program(uint8_t *memory, uint32_t size, uint32_t offset, const void *from, uint32_t bytes)
{
    const uint8_t *source = (const uint8_t *)from;
    volatile uint8_t *flash = memory;
    if (offset % HAL_FLASH_UNIT != 0 || bytes % HAL_FLASH_UNIT != 0 || offset > size || bytes > size - offset)
        return -1;
    for (uint32_t i = 0; i < bytes; i++)
        flash[offset + i] = flash[offset + i] & source[i]; /* NOR: a program clears bits */
    return 0;
}

#endif
