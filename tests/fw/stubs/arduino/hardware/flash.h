/* Stub of the Pico SDK's hardware/flash.h for compile tests. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HARDWARE_FLASH_H
#define HARDWARE_FLASH_H

#include <stddef.h>
#include <stdint.h>

#define FLASH_PAGE_SIZE (1u << 8)
#define FLASH_SECTOR_SIZE (1u << 12)
#define XIP_BASE 0x10000000u

#ifdef __cplusplus
extern "C" {
#endif
void flash_range_erase(uint32_t flash_offs, size_t count);
void flash_range_program(uint32_t flash_offs, const uint8_t *data, size_t count);
#ifdef __cplusplus
}
#endif

#endif
