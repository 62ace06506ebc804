/* Flash of RP2040 and RP2350 for hooks: below the file system, or the emulated EEPROM, of the Earle Philhower core. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#if defined(FAMILY_RP2040)

#include <Arduino.h>
#include <hardware/flash.h>

#include "mapped_flash.h"

/* Of the core's linker scripts (lib/rp2040/memmap_default.ld, lib/rp2350/memmap_default.ld). */
extern "C" uint8_t _FS_start, __flash_binary_end;

mapped_flash_t mapped_flash_open()
{
    return {reinterpret_cast<uintptr_t>(&_FS_start) - DHN_FLASH_BYTES, reinterpret_cast<uintptr_t>(&__flash_binary_end),
            FLASH_SECTOR_SIZE, FLASH_PAGE_SIZE};
}

/* The flash cannot be read while it changes: neither the other core nor an interrupt may run from it meanwhile. */
static void stop_the_world()
{
    rp2040.idleOtherCore();
    noInterrupts();
}

static void go_on()
{
    interrupts();
    rp2040.resumeOtherCore();
}

static uint32_t offset_of(const uint8_t *at)
{
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(at) - XIP_BASE);
}

int mapped_flash_erase(const uint8_t *page)
{
    stop_the_world();
    flash_range_erase(offset_of(page), DHN_FLASH_PAGE);
    go_on();
    return 0;
}

int mapped_flash_program(const uint8_t *at, const uint8_t *unit)
{
    stop_the_world();
    flash_range_program(offset_of(at), unit, FLASH_PAGE_SIZE);
    go_on();
    return 0;
}

#endif
