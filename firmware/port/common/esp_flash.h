/* Flash partitions of ESP32 chips, for the ports to Arduino and ESP-IDF. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_FLASH_H
#define ESP_FLASH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Finds the partitions dhn_hooks0 and dhn_hooks1, which follow one another and are equally large. Without them the board
 * keeps no hooks. Called once, by hal_init. */
void flash_start(void);

/* The partition dhn_model as memory, NULL where there is none; `bytes`: its size. Called once. */
const void *esp_flash_model(uint32_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
