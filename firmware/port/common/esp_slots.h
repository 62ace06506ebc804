/* Flash partitions of ESP32 chips, for the ports to Arduino and ESP-IDF. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_SLOTS_H
#define ESP_SLOTS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Finds the partitions dhn_hooks0 and dhn_hooks1, which follow one another and are equally large. Without them the board
 * keeps no hooks. With DHN_MODEL_PARTITION the network is looked for in the partition dhn_model; without one the
 * application starts and says that it has no network. Called once, by hal_init. */
void flash_start(void);

#ifdef __cplusplus
}
#endif

#endif
