/* Flash of STM32 F4, L4 and H7 for hooks, through ST's HAL: the last pages of the chip. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#if defined(FAMILY_STM32) && defined(FAMILY_HAS_MAPPED_FLASH)

#include <Arduino.h>
#include <string.h>

#include "mapped_flash.h"
#include "hal.h"

/* Of the core's linker scripts: where the start values of .data lie, and how many they are. */
extern "C" uint8_t _sidata, _sdata, _edata;

/* What one program writes: stm32f4xx_hal_flash.h, stm32l4xx_hal_flash.h, stm32h7xx_hal_flash.h. The latter two keep an
 * error-correcting code per unit: what is not erased takes zeros at most (L4), or nothing (H7). */
#if defined(STM32F4xx)
enum : uint32_t { PROGRAM_BYTES = 4, ERASE_BYTES = 0x20000 };
#elif defined(STM32L4xx)
enum : uint32_t { PROGRAM_BYTES = 8, ERASE_BYTES = FLASH_PAGE_SIZE };
#else
#if !defined(FLASH_NB_32BITWORD_IN_FLASHWORD) /* of each chip: 8, or 4 (H7A3, H7B3); old headers lack it */
#define FLASH_NB_32BITWORD_IN_FLASHWORD 8
#endif
enum : uint32_t { PROGRAM_BYTES = 4 * FLASH_NB_32BITWORD_IN_FLASHWORD, ERASE_BYTES = FLASH_SECTOR_SIZE };
#if HAL_FLASH_UNIT < 4 * FLASH_NB_32BITWORD_IN_FLASHWORD
#error "this chip programs 32 bytes at a time (H7A3, H7B3: 16); build with -DHAL_FLASH_UNIT=32u"
#endif
#endif

/* Chips with one bank have no name for the second. */
#if defined(FLASH_BANK_2)
#define BANK_OF(offset) ((offset) < FLASH_BANK_SIZE ? FLASH_BANK_1 : FLASH_BANK_2)
#else
#define BANK_OF(offset) FLASH_BANK_1
#endif

/* L4 with one bank erases twice as much at a time, by other numbers. */
static uint32_t erase_bytes()
{
#if defined(FLASH_OPTR_DBANK)
    if ((FLASH->OPTR & FLASH_OPTR_DBANK) == 0)
        return 0;
#endif
    return ERASE_BYTES;
}

/* What the chip itself says: the headers are those of the largest of its line, and some name no end (stm32l4r5xx.h). */
static uint32_t flash_end()
{
    return FLASH_BASE + *reinterpret_cast<volatile uint16_t *>(FLASHSIZE_BASE) * 1024u;
}

mapped_flash_t mapped_flash_open()
{
    uintptr_t const end = reinterpret_cast<uintptr_t>(&_sidata) + static_cast<uintptr_t>(&_edata - &_sdata);
    return {flash_end() - DHN_FLASH_BYTES, end, erase_bytes(), PROGRAM_BYTES};
}

static uint32_t address_of(const uint8_t *at)
{
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(at));
}

/* Which erase unit `address` is in. */
static void select_page(FLASH_EraseInitTypeDef &erase, uint32_t address)
{
    uint32_t const offset = address - FLASH_BASE;
#if defined(STM32F4xx)
    /* Sectors of 128 kB from the fifth on; the four of 16 kB and the one of 64 kB before them are as large together as
     * one of those (RM0390, section 3.3). A second megabyte is divided in the same way, from sector 12 on. */
    erase.TypeErase = FLASH_TYPEERASE_SECTORS;
    erase.Sector = offset / 0x100000u * 12 + 4 + offset % 0x100000u / 0x20000u;
    erase.NbSectors = 1;
    erase.VoltageRange = FLASH_VOLTAGE_RANGE_3;
#elif defined(STM32L4xx)
    erase.TypeErase = FLASH_TYPEERASE_PAGES;
    erase.Banks = BANK_OF(offset);
    erase.Page = offset % FLASH_BANK_SIZE / DHN_FLASH_PAGE;
    erase.NbPages = 1;
#else
    erase.TypeErase = FLASH_TYPEERASE_SECTORS;
    erase.Banks = BANK_OF(offset);
    erase.Sector = offset % FLASH_BANK_SIZE / FLASH_SECTOR_SIZE;
    erase.NbSectors = 1;
#if defined(FLASH_VOLTAGE_RANGE_3) /* H7A3 and H7B3 have none */
    erase.VoltageRange = FLASH_VOLTAGE_RANGE_3;
#endif
#endif
}

static int program(uint32_t address, const uint8_t *unit)
{
#if defined(STM32F4xx)
    uint32_t word;
    memcpy(&word, unit, sizeof word);
    return HAL_FLASH_Program(FLASH_TYPEPROGRAM_WORD, address, word) == HAL_OK ? 0 : -1;
#elif defined(STM32L4xx)
    uint64_t words;
    memcpy(&words, unit, sizeof words);
    return HAL_FLASH_Program(FLASH_TYPEPROGRAM_DOUBLEWORD, address, words) == HAL_OK ? 0 : -1;
#else
    uint32_t words[PROGRAM_BYTES / 4];
    memcpy(words, unit, sizeof words);
    uint32_t const from = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(words));
    return HAL_FLASH_Program(FLASH_TYPEPROGRAM_FLASHWORD, address, from) == HAL_OK ? 0 : -1;
#endif
}

/* H7: a unit that is not erased is left as it is. Only a slot's identity is ever programmed over, before the slot's erase,
 * and there a slot is one sector: the erase takes the identity along. */
static bool takes(const uint8_t *at)
{
#if defined(STM32H7xx)
    for (uint32_t i = 0; i < PROGRAM_BYTES; i++)
        if (at[i] != 0xFF)
            return false;
#else
    (void)at;
#endif
    return true;
}

/* The cores' caches may still hold what was there. */
static void forget(const uint8_t *at, uint32_t bytes)
{
#if defined(STM32H7xx)
    SCB_InvalidateDCache_by_Addr(reinterpret_cast<uint32_t *>(reinterpret_cast<uintptr_t>(at)),
                                 static_cast<int32_t>(bytes));
#else
    (void)at;
    (void)bytes;
    __HAL_FLASH_DATA_CACHE_DISABLE();
    __HAL_FLASH_DATA_CACHE_RESET();
    __HAL_FLASH_DATA_CACHE_ENABLE();
#endif
}

/* What an earlier access left behind the HAL would report as a failure of the next. */
static void unlock()
{
    (void)HAL_FLASH_Unlock();
#if defined(STM32F4xx)
    __HAL_FLASH_CLEAR_FLAG(FLASH_FLAG_OPERR | FLASH_FLAG_WRPERR | FLASH_FLAG_PGAERR | FLASH_FLAG_PGPERR |
                           FLASH_FLAG_PGSERR);
#elif defined(STM32L4xx)
    __HAL_FLASH_CLEAR_FLAG(FLASH_FLAG_ALL_ERRORS);
#else
    __HAL_FLASH_CLEAR_FLAG_BANK1(FLASH_FLAG_ALL_ERRORS_BANK1);
#if defined(FLASH_BANK_2)
    __HAL_FLASH_CLEAR_FLAG_BANK2(FLASH_FLAG_ALL_ERRORS_BANK2);
#endif
#endif
}

int mapped_flash_erase(const uint8_t *page)
{
    FLASH_EraseInitTypeDef erase = {};
    uint32_t failed = 0;
    select_page(erase, address_of(page));
    unlock();
    int const status = HAL_FLASHEx_Erase(&erase, &failed) == HAL_OK ? 0 : -1;
    (void)HAL_FLASH_Lock();
    forget(page, DHN_FLASH_PAGE);
    return status;
}

int mapped_flash_program(const uint8_t *at, const uint8_t *unit)
{
    if (!takes(at))
        return 0;
    unlock();
    int const status = program(address_of(at), unit);
    (void)HAL_FLASH_Lock();
    forget(at, PROGRAM_BYTES);
    return status;
}

#endif
