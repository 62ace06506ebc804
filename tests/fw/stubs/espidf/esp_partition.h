/* Stub of ESP-IDF's esp_partition.h for compile tests, of versions 4.4 and 5. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_PARTITION_H
#define ESP_PARTITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"
#include "esp_idf_version.h"

typedef struct esp_flash_t esp_flash_t;
typedef enum {
    ESP_PARTITION_TYPE_APP = 0,
    ESP_PARTITION_TYPE_DATA = 1,
    ESP_PARTITION_TYPE_ANY = 0xff
} esp_partition_type_t;
typedef enum { ESP_PARTITION_SUBTYPE_DATA_UNDEFINED = 6, ESP_PARTITION_SUBTYPE_ANY = 0xff } esp_partition_subtype_t;

typedef struct {
    esp_flash_t *flash_chip;
    esp_partition_type_t type;
    esp_partition_subtype_t subtype;
    uint32_t address;
    uint32_t size;
#if ESP_IDF_VERSION_MAJOR >= 5
    uint32_t erase_size;
#endif
    char label[17];
    bool encrypted;
#if ESP_IDF_VERSION_MAJOR >= 5
    bool readonly; /* since 5.2 */
#endif
} esp_partition_t;

#if ESP_IDF_VERSION_MAJOR >= 5
typedef enum { ESP_PARTITION_MMAP_DATA, ESP_PARTITION_MMAP_INST } esp_partition_mmap_memory_t;
typedef uint32_t esp_partition_mmap_handle_t;
#else
typedef enum { SPI_FLASH_MMAP_DATA, SPI_FLASH_MMAP_INST } spi_flash_mmap_memory_t; /* esp_spi_flash.h */
typedef uint32_t spi_flash_mmap_handle_t;
#define esp_partition_mmap_memory_t spi_flash_mmap_memory_t
#define esp_partition_mmap_handle_t spi_flash_mmap_handle_t
#endif

const esp_partition_t *esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype,
                                                const char *label);
esp_err_t esp_partition_write(const esp_partition_t *partition, size_t dst_offset, const void *src, size_t size);
esp_err_t esp_partition_erase_range(const esp_partition_t *partition, size_t offset, size_t size);
esp_err_t esp_partition_mmap(const esp_partition_t *partition, size_t offset, size_t size,
                             esp_partition_mmap_memory_t memory, const void **out_ptr,
                             esp_partition_mmap_handle_t *out_handle);

#endif
