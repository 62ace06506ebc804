/* Stub of ESP-IDF's esp_system.h for compile tests. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_SYSTEM_H
#define ESP_SYSTEM_H

#include <stdint.h>

void esp_restart(void) __attribute__((__noreturn__));

#endif
