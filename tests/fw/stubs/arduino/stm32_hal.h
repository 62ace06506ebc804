/* Stub of ST's HAL for flash, for compile tests: stm32f4xx, stm32l4xx and stm32h7xx_hal_flash(_ex).h. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STM32_HAL_H
#define STM32_HAL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
typedef enum { HAL_OK = 0, HAL_ERROR = 1, HAL_BUSY = 2, HAL_TIMEOUT = 3 } HAL_StatusTypeDef;
HAL_StatusTypeDef HAL_FLASH_Unlock(void);
HAL_StatusTypeDef HAL_FLASH_Lock(void);

#define FLASH_BASE 0x08000000UL
#if defined(STM32F4xx)
#define FLASHSIZE_BASE 0x1FFF7A22UL /* stm32f446xx.h */
#define FLASH_FLAG_OPERR (1UL << 1)
#define FLASH_FLAG_WRPERR (1UL << 4)
#define FLASH_FLAG_PGAERR (1UL << 5)
#define FLASH_FLAG_PGPERR (1UL << 6)
#define FLASH_FLAG_PGSERR (1UL << 7)
#define FLASH_TYPEERASE_SECTORS 0x00000000U
#define FLASH_VOLTAGE_RANGE_3 0x00000002U
#define FLASH_TYPEPROGRAM_WORD 0x00000002U
typedef struct {
    uint32_t TypeErase, Banks, Sector, NbSectors, VoltageRange;
} FLASH_EraseInitTypeDef;
HAL_StatusTypeDef HAL_FLASH_Program(uint32_t TypeProgram, uint32_t Address, uint64_t Data);
#elif defined(STM32L4xx)
#define FLASHSIZE_BASE 0x1FFF75E0UL /* stm32l4r5xx.h, which has no FLASH_END */
#define FLASH_SIZE (*(volatile uint16_t *)FLASHSIZE_BASE * 1024U)
#define FLASH_FLAG_ALL_ERRORS 0xF000C3FAUL
#define FLASH_BANK_1 0x01U
#if defined(STM32L432xx) /* of the chips with one bank */
#define FLASH_BANK_SIZE FLASH_SIZE
#define FLASH_PAGE_SIZE ((uint32_t)0x800)
#else
#define FLASH_BANK_SIZE (FLASH_SIZE >> 1U)
#define FLASH_PAGE_SIZE ((uint32_t)0x1000)
#define FLASH_BANK_2 0x02U
#define FLASH_OPTR_DBANK (0x1UL << 22) /* stm32l4r5xx.h */
#endif
#define FLASH_TYPEERASE_PAGES 0x00U
#define FLASH_TYPEPROGRAM_DOUBLEWORD 0x00U
typedef struct {
    uint32_t TypeErase, Banks, Page, NbPages;
} FLASH_EraseInitTypeDef;
HAL_StatusTypeDef HAL_FLASH_Program(uint32_t TypeProgram, uint32_t Address, uint64_t Data);
#elif defined(STM32H7xx)
#define FLASHSIZE_BASE 0x1FF1E880UL /* stm32h743xx.h */
#define FLASH_BANK_SIZE 0x00100000UL
#define FLASH_BANK_1 0x01U
#define FLASH_TYPEERASE_SECTORS 0x00U
#if !defined(STM32H723xx) /* one bank */
#define FLASH_BANK_2 0x02U
#endif
#if defined(STM32H7A3xx)
#define FLASH_SECTOR_SIZE 0x00002000UL
#define FLASH_NB_32BITWORD_IN_FLASHWORD 4U
#else
#define FLASH_SECTOR_SIZE 0x00020000UL
#define FLASH_VOLTAGE_RANGE_3 0x00000020U
#endif
#define FLASH_TYPEPROGRAM_FLASHWORD 0x01U
typedef struct {
    uint32_t TypeErase, Banks, Sector, NbSectors, VoltageRange;
} FLASH_EraseInitTypeDef;
HAL_StatusTypeDef HAL_FLASH_Program(uint32_t TypeProgram, uint32_t FlashAddress, uint32_t DataAddress);
void SCB_InvalidateDCache_by_Addr(void *addr, int32_t dsize); /* core_cm7.h, cmsis_gcc.h */
void __disable_fault_irq(void);
void __enable_fault_irq(void);
void __DSB(void);
typedef struct {
    volatile uint32_t CCR, CFSR; /* among others */
} SCB_Type;
#define SCB ((SCB_Type *)0xE000ED14UL)
#define SCB_CCR_BFHFNMIGN_Msk (1UL << 8)
#define FLASH_SR_DBECCERR (1UL << 26) /* stm32h743xx.h */
#define FLASH_CCR_CLR_DBECCERR (1UL << 26)
#define FLASH_FLAG_ALL_ERRORS_BANK1 0x17EE0000UL
#define FLASH_FLAG_ALL_ERRORS_BANK2 (0x17EE0000UL | 0x80000000UL)
typedef struct {
    volatile uint32_t ACR, KEYR1, OPTKEYR, CR1, SR1, CCR1;
#if defined(FLASH_BANK_2)
    volatile uint32_t to_0x10c[61], CR2, SR2, CCR2; /* and more */
#endif
} FLASH_TypeDef;
#define FLASH ((FLASH_TypeDef *)0x52002000UL)
#define __HAL_FLASH_CLEAR_FLAG_BANK1(flags) (FLASH->CCR1 = (flags))
#define __HAL_FLASH_CLEAR_FLAG_BANK2(flags) (FLASH->CCR2 = (flags) & 0x7FFFFFFFUL)
#else
typedef struct {
    uint32_t TypeErase, Banks, PageAddress, NbPages;
} FLASH_EraseInitTypeDef;
#endif
HAL_StatusTypeDef HAL_FLASHEx_Erase(FLASH_EraseInitTypeDef *pEraseInit, uint32_t *Error);
#ifdef __cplusplus
}
#endif

#if defined(STM32F4xx) || defined(STM32L4xx)
#if defined(STM32F4xx)
typedef struct {
    volatile uint32_t ACR, KEYR, OPTKEYR, SR, CR, OPTCR;
} FLASH_TypeDef;
#define FLASH ((FLASH_TypeDef *)0x40023C00UL)
#define __HAL_FLASH_CLEAR_FLAG(flags) (FLASH->SR = (flags))
#else
typedef struct {
    volatile uint32_t ACR, PDKEYR, KEYR, OPTKEYR, SR, CR, ECCR, RESERVED1, OPTR; /* and more */
} FLASH_TypeDef;
#define FLASH ((FLASH_TypeDef *)0x40022000UL)
#define __HAL_FLASH_CLEAR_FLAG(flags)                                                                                  \
    do {                                                                                                               \
        FLASH->ECCR = FLASH->ECCR | ((flags) & 0xF0000000UL);                                                          \
        FLASH->SR = (flags) & ~0xF0000000UL;                                                                           \
    } while (0)
#endif
#define __HAL_FLASH_DATA_CACHE_DISABLE() (FLASH->ACR = FLASH->ACR & ~(1UL << 10))
#define __HAL_FLASH_DATA_CACHE_ENABLE() (FLASH->ACR = FLASH->ACR | 1UL << 10)
#define __HAL_FLASH_DATA_CACHE_RESET()                                                                                 \
    do {                                                                                                               \
        FLASH->ACR = FLASH->ACR | 1UL << 12;                                                                           \
        FLASH->ACR = FLASH->ACR & ~(1UL << 12);                                                                        \
    } while (0)
#endif

#endif
