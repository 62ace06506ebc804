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

typedef struct {
    uintptr_t otherwise; /* where the area starts, as an address, if DHN_FLASH_BASE does not say */
    uintptr_t free_from; /* where the program that runs ends */
    uint32_t page;       /* what one erase clears */
    uint32_t unit;       /* what one program writes, at multiples of it */
} mapped_flash_t;

/* Called once. A page of 0 bytes: this chip's flash cannot be used. */
mapped_flash_t mapped_flash_open();

/* One page, and one unit. 0, or negative where the hardware reports a failure. The memory shows the new content
 * afterwards. */
int mapped_flash_erase(const uint8_t *page);
int mapped_flash_program(const uint8_t *at, const uint8_t *unit);

/* Families that fault on reading what lost its power while it changed (FAMILY_FAULTS_ON_TORN_FLASH) erase such pages of the
 * area. Called once, before anything is read there. */
void mapped_flash_heal(const uint8_t *area);

#endif
