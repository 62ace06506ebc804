/* Flash of Teensy 4.0, 4.1 and MicroMod for hooks: below the emulated EEPROM (where LittleFS_Program would be as well). */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#if defined(FAMILY_TEENSY4)

#include <Arduino.h>

#include "mapped_flash.h"

/* cores/teensy4/eeprom.c; no header declares them. A program stays within 256 bytes of the flash. */
extern "C" void eepromemu_flash_write(void *addr, const void *data, uint32_t len);
extern "C" void eepromemu_flash_erase_sector(void *addr);
extern "C" unsigned long _flashimagelen; /* its address is the program's size (imxrt1062_t41.ld) */

#if defined(ARDUINO_TEENSY41)
#define FLASH_TOP 0x607C0000u /* FLASH_BASEADDR of eeprom.c */
#elif defined(ARDUINO_TEENSY_MICROMOD)
#define FLASH_TOP 0x60FC0000u
#else
#define FLASH_TOP 0x601F0000u
#endif
#define FLASH_BOTTOM 0x60000000u

mapped_flash_t mapped_flash_open()
{
    return {FLASH_TOP - DHN_FLASH_BYTES, FLASH_BOTTOM + reinterpret_cast<uintptr_t>(&_flashimagelen), 4096,
            MAPPED_UNIT_MOST};
}

int mapped_flash_erase(const uint8_t *page)
{
    eepromemu_flash_erase_sector(const_cast<uint8_t *>(page));
    return 0;
}

int mapped_flash_program(const uint8_t *at, const uint8_t *unit)
{
    eepromemu_flash_write(const_cast<uint8_t *>(at), unit, MAPPED_UNIT_MOST);
    return 0;
}

#endif
