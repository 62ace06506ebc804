/* Flash of boards with an Mbed core (Nano 33 BLE, Arduino's own core for the Pico) for hooks: the end of the chip's. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#if defined(FAMILY_MBED)

#include <Arduino.h>
#include <FlashIAP.h>

#include "mapped_flash.h"

/* drivers/FlashIAP.h. FLASHIAP_APP_ROM_END_ADDR, where the program ends, is hal/flash_api.h's, or the target's. */
static mbed::FlashIAP flash;

mapped_flash_t mapped_flash_open()
{
    if (flash.init() != 0)
        return {0, 0, 0, 0};
    uint32_t const start = flash.get_flash_start() + flash.get_flash_size() - DHN_FLASH_BYTES;
    return {start, FLASHIAP_APP_ROM_END_ADDR, flash.get_sector_size(start), flash.get_page_size()};
}

static uint32_t address_of(const uint8_t *at)
{
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(at));
}

int mapped_flash_erase(const uint8_t *page)
{
    return flash.erase(address_of(page), DHN_FLASH_PAGE);
}

int mapped_flash_program(const uint8_t *at, const uint8_t *unit)
{
    return flash.program(unit, address_of(at), flash.get_page_size());
}

#endif
