/* Cores of no known family keep no hooks, unless the sketch defines these functions itself. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"
#include "parts.h"
#include "hal.h"

#if !defined(FAMILY_KEEPS_HOOKS)

#define OTHERWISE __attribute__((weak))

OTHERWISE void flash_start(void)
{
}

OTHERWISE uint32_t hal_flash_bytes(void)
{
    return 0;
}

OTHERWISE uint32_t hal_flash_page_bytes(void)
{
    return 4096;
}

OTHERWISE const uint8_t *hal_flash(void)
{
    return nullptr;
}

OTHERWISE int hal_flash_erase(uint32_t)
{
    return -1;
}

OTHERWISE int hal_flash_program(uint32_t, const void *, uint32_t)
{
    return -1;
}

#endif
