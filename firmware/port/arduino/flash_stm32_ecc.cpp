/* Flash of STM32 L4 and H7 that lost its power while it changed: reading it faults, which is made harmless here. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"

#if defined(FAMILY_STM32) && (defined(STM32L4xx) || defined(STM32H7xx))

#include <Arduino.h>

#include "mapped_flash.h"
#include "parts.h"

#if defined(STM32L4xx)

/* Two wrong bits in a unit raise an NMI (RM0432, section 3.3.4), whose handler in the core is an endless loop, and weak. The
 * value that was read is wrong, which the slots' checksums find. */
extern "C" __attribute__((weak)) void NMI_Handler(void)
{
    uint32_t const flags = 0xF0000000u; /* ECCD, ECCC, and both for the other half; cleared by writing ones (3.7.8) */
    if ((FLASH->ECCR & flags) == 0)
        restart_core();
    FLASH->ECCR = FLASH->ECCR | flags;
}

#else

enum : uint32_t { UNIT_WORDS = 16 / 4 }; /* the smallest unit of the family */

/* Flags of the flash's banks: cleared, and whether they were set. */
static bool clear_double_errors()
{
    uint32_t flags = FLASH->SR1;
    FLASH->CCR1 = FLASH_CCR_CLR_DBECCERR;
#if defined(FLASH_BANK_2)
    flags |= FLASH->SR2;
    FLASH->CCR2 = FLASH_CCR_CLR_DBECCERR;
#endif
    return (flags & FLASH_SR_DBECCERR) != 0;
}

/* Two wrong bits in a unit are a bus fault (RM0433, section 4.3.9). With FAULTMASK set and BFHFNMIGN, loads that fault are
 * ignored (Arm DDI 0403, section B3.2.8), and the flash's own flag tells. */
static bool is_torn(const uint8_t *page)
{
    const volatile uint32_t *const word =
        reinterpret_cast<const volatile uint32_t *>(reinterpret_cast<uintptr_t>(page));
    __disable_fault_irq();
    SCB->CCR = SCB->CCR | SCB_CCR_BFHFNMIGN_Msk;
    __DSB();
    for (uint32_t i = 0; i < DHN_FLASH_PAGE / 4; i += UNIT_WORDS)
        (void)word[i];
    __DSB();
    bool const torn = clear_double_errors();
    SCB->CCR = SCB->CCR & ~SCB_CCR_BFHFNMIGN_Msk;
    SCB->CFSR = SCB->CFSR; /* cleared by writing ones */
    __enable_fault_irq();
    return torn;
}

/* A torn unit was being written: its slot is not one that was confirmed before, so nothing that counts is lost with it. */
void mapped_flash_heal(const uint8_t *area)
{
    for (uint32_t at = 0; at < DHN_FLASH_BYTES; at += DHN_FLASH_PAGE)
        if (is_torn(area + at))
            (void)mapped_flash_erase(area + at);
}

#endif

#endif
