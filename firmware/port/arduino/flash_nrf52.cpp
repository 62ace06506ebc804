/* Flash of nRF52840 for hooks: below what Adafruit's core keeps for its file system and bootloader. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#if defined(FAMILY_NRF52)

#include "mapped_flash.h"

/* Of the cores' linker scripts. */
extern "C" uint8_t __etext, __data_start__, __data_end__;

/* Adafruit's file system starts here (InternalFileSytem.cpp); other cores leave it free. */
#define FLASH_TOP 0xED000u

/* nRF52840 product specification 1.7, section 4.3.9. While Bluetooth's SoftDevice is enabled it owns this peripheral: then
 * these writes fault, and hooks must be pushed before it starts. */
#define NVMC_READY (*reinterpret_cast<volatile uint32_t *>(0x4001E400u))
#define NVMC_CONFIG (*reinterpret_cast<volatile uint32_t *>(0x4001E504u))
#define NVMC_ERASEPAGE (*reinterpret_cast<volatile uint32_t *>(0x4001E508u))
enum { NVMC_READ = 0, NVMC_WRITE = 1, NVMC_ERASE = 2, NVMC_WORD = 4, NVMC_PAGE = 4096 };

static void wait_until_ready()
{
    while (NVMC_READY == 0) {
    }
}

mapped_flash_t mapped_flash_open()
{
    uintptr_t const end =
        reinterpret_cast<uintptr_t>(&__etext) + static_cast<uintptr_t>(&__data_end__ - &__data_start__);
    return {FLASH_TOP - DHN_FLASH_BYTES, end, NVMC_PAGE, NVMC_WORD};
}

int mapped_flash_erase(const uint8_t *page)
{
    NVMC_CONFIG = NVMC_ERASE;
    wait_until_ready();
    NVMC_ERASEPAGE = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(page));
    wait_until_ready();
    NVMC_CONFIG = NVMC_READ;
    return 0;
}

int mapped_flash_program(const uint8_t *at, const uint8_t *unit)
{
    uint32_t const word = static_cast<uint32_t>(unit[0]) | static_cast<uint32_t>(unit[1]) << 8 |
                          static_cast<uint32_t>(unit[2]) << 16 | static_cast<uint32_t>(unit[3]) << 24;
    NVMC_CONFIG = NVMC_WRITE;
    wait_until_ready();
    *reinterpret_cast<volatile uint32_t *>(reinterpret_cast<uintptr_t>(at)) = word;
    wait_until_ready();
    NVMC_CONFIG = NVMC_READ;
    return 0;
}

#endif
