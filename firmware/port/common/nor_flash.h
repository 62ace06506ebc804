/* Hook flash in memory that behaves as NOR flash does: what nor_flash.c needs of the port that uses it. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NOR_FLASH_H
#define NOR_FLASH_H

#include <stdint.h>

/* The area, NOR_FLASH_BYTES of it, aligned to 4. Memory that outlives the firmware, or a copy of what does. */
uint8_t *nor_flash_memory(void);

/* Called after these bytes of the area have changed: a port whose area is a copy defines it and writes them through. Negative:
 * it could not. */
int nor_flash_save(uint32_t offset, uint32_t bytes);

#endif
