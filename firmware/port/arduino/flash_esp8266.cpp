/* Flash of ESP8266 for hooks, with a copy in RAM: where DHN_FLASH_BASE says, or in the file system's area. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#if defined(FAMILY_ESP8266)

#include <Arduino.h>

#include "nor_rules.h"
#include "parts.h"
#include "hal.h"

/* The chip maps its flash for aligned words only, and hooks are read by the byte: so the area is copied, and small. */
#ifndef DHN_FLASH_BYTES
#define DHN_FLASH_BYTES 8192
#endif
static_assert(DHN_FLASH_BYTES <= 16384, "DHN_FLASH_BYTES: the slots are copied to RAM, 16 kB of it at most");
enum { SECTOR = 4096 /* spi_flash.h, SPI_FLASH_SEC_SIZE */ };

/* Where the area starts, as an offset in the flash chip. */
static uint32_t area;
static uint32_t copy[DHN_FLASH_BYTES / 4];
static bool present;

static uint8_t *memory()
{
    return reinterpret_cast<uint8_t *>(copy);
}

#if defined(DHN_FLASH_BASE)

static bool find_area()
{
    area = DHN_FLASH_BASE;
    return area >= ESP.getSketchSize();
}

#else

extern "C" uint8_t _FS_start, _FS_end; /* tools/sdk/ld/eagle.flash.*.ld; equal where the layout has no file system */

static bool find_area()
{
    area = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&_FS_start)) - 0x40200000u;
    return reinterpret_cast<uintptr_t>(&_FS_end) - reinterpret_cast<uintptr_t>(&_FS_start) >= DHN_FLASH_BYTES;
}

#endif

void flash_start(void)
{
    present = find_area() && ESP.flashRead(area, copy, sizeof copy);
}

uint32_t hal_flash_bytes(void)
{
    return present ? DHN_FLASH_BYTES : 0;
}

uint32_t hal_flash_page_bytes(void)
{
    return SECTOR;
}

const uint8_t *hal_flash(void)
{
    return memory();
}

int hal_flash_erase(uint32_t page_offset)
{
    if (nor_erase(memory(), hal_flash_bytes(), SECTOR, page_offset) != 0)
        return -1;
    return ESP.flashEraseSector((area + page_offset) / SECTOR) ? 0 : -1;
}

int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes)
{
    if (nor_program(memory(), hal_flash_bytes(), offset, from, bytes) != 0)
        return -1;
    return ESP.flashWrite(area + offset, copy + offset / 4, bytes) ? 0 : -1;
}

#endif
