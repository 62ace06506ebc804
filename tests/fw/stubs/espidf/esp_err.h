/* Stub of ESP-IDF's esp_err.h for compile tests. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_ERR_H
#define ESP_ERR_H

typedef int esp_err_t;
#define ESP_OK 0
void _esp_error_check_failed(esp_err_t rc, const char *file, int line, const char *function, const char *expression)
    __attribute__((__noreturn__));
#define ESP_ERROR_CHECK(call)                                                                                          \
    do {                                                                                                               \
        esp_err_t const status_of_call = (call);                                                                       \
        if (status_of_call != ESP_OK)                                                                                  \
            _esp_error_check_failed(status_of_call, __FILE__, __LINE__, __func__, #call);                              \
    } while (0)

#endif
