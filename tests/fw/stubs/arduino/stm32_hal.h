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
#define FLASH_END 0x0807FFFFUL
#define FLASH_TYPEERASE_SECTORS 0x00000000U
#define FLASH_VOLTAGE_RANGE_3 0x00000002U
#define FLASH_TYPEPROGRAM_WORD 0x00000002U
typedef struct {
    uint32_t TypeErase, Banks, Sector, NbSectors, VoltageRange;
} FLASH_EraseInitTypeDef;
HAL_StatusTypeDef HAL_FLASH_Program(uint32_t TypeProgram, uint32_t Address, uint64_t Data);
#elif defined(STM32L4xx)
#define FLASH_END 0x081FFFFFUL
#define FLASH_BANK_SIZE 0x00100000UL
#define FLASH_PAGE_SIZE 0x1000U
#define FLASH_BANK_1 0x01U
#define FLASH_BANK_2 0x02U
#define FLASH_TYPEERASE_PAGES 0x00U
#define FLASH_TYPEPROGRAM_DOUBLEWORD 0x00U
#define FLASH_OPTR_DBANK (0x1UL << 22) /* stm32l4r5xx.h */
typedef struct {
    volatile uint32_t ECCR, OPTR; /* among others */
} FLASH_TypeDef;
#define FLASH ((FLASH_TypeDef *)0x40022018UL)
typedef struct {
    uint32_t TypeErase, Banks, Page, NbPages;
} FLASH_EraseInitTypeDef;
HAL_StatusTypeDef HAL_FLASH_Program(uint32_t TypeProgram, uint32_t Address, uint64_t Data);
#elif defined(STM32H7xx)
#define FLASH_END 0x081FFFFFUL
#define FLASH_BANK_SIZE 0x00100000UL
#define FLASH_SECTOR_SIZE 0x00020000UL
#define FLASH_BANK_1 0x01U
#define FLASH_BANK_2 0x02U
#define FLASH_TYPEERASE_SECTORS 0x00U
#define FLASH_VOLTAGE_RANGE_3 0x00000020U
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
typedef struct {
    volatile uint32_t SR1, CCR1, SR2, CCR2; /* among others */
} FLASH_TypeDef;
#define FLASH ((FLASH_TypeDef *)0x52002010UL)
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
#define STUB_FLASH_ACR (*(volatile uint32_t *)0x40022000UL)
#define __HAL_FLASH_DATA_CACHE_DISABLE() (STUB_FLASH_ACR = STUB_FLASH_ACR & ~(1UL << 10))
#define __HAL_FLASH_DATA_CACHE_ENABLE() (STUB_FLASH_ACR = STUB_FLASH_ACR | 1UL << 10)
#define __HAL_FLASH_DATA_CACHE_RESET() (STUB_FLASH_ACR = STUB_FLASH_ACR | 1UL << 12)
#endif

#endif
