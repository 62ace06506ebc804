/* Flash that is read as memory: what a chip family supplies, from which mapped_flash.cpp makes the HAL's flash. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MAPPED_FLASH_H
#define MAPPED_FLASH_H

#include <stdint.h>

/* Both slots together, and what one erase clears. The board's file says, or the family. */
#ifndef DHN_FLASH_BYTES
#define DHN_FLASH_BYTES 131072
#endif
#ifndef DHN_FLASH_PAGE
#define DHN_FLASH_PAGE 4096
#endif

enum { MAPPED_UNIT_MOST = 256 };

/* The area, DHN_FLASH_BYTES of it; `unit`: what one program writes, in bytes, at multiples of it. */
typedef struct {
    const uint8_t *memory; /* NULL: there is no room for the area beside the program */
    uint32_t unit;
} mapped_flash_t;

/* Called once. The area must not hold anything of the program that runs. */
mapped_flash_t mapped_flash_open();

/* One page of DHN_FLASH_PAGE bytes, and one unit. 0, or negative where the hardware reports a failure. The memory shows
 * the new content afterwards. */
int mapped_flash_erase(const uint8_t *page);
int mapped_flash_program(const uint8_t *at, const uint8_t *unit);

#endif
