/* Stub of ESP-IDF's esp_rom_sys.h for compile tests. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_ROM_SYS_H
#define ESP_ROM_SYS_H

#include <stdint.h>

uint32_t esp_rom_get_cpu_ticks_per_us(void);

#endif
