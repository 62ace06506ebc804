/* Stub of ESP-IDF's esp_err.h for compile tests. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_ERR_H
#define ESP_ERR_H

typedef int esp_err_t;
#define ESP_OK 0

#endif
