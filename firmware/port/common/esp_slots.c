/* The HAL's flash on ESP32 chips: the two partitions for hooks, mapped as memory once. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "esp_slots.h"

#if defined(ESP_PLATFORM)

#include <esp_idf_version.h>
#include <esp_partition.h>

#include "hal.h"
#include "model.h"

#if ESP_IDF_VERSION_MAJOR >= 5
typedef esp_partition_mmap_handle_t handle_t; /* esp_partition.h */
#define AS_DATA ESP_PARTITION_MMAP_DATA
#else
typedef spi_flash_mmap_handle_t handle_t; /* esp_spi_flash.h */
#define AS_DATA SPI_FLASH_MMAP_DATA
#endif

enum { SECTOR = 4096 /* what these chips' flash erases at a time */ };

static esp_partition_t both; /* as if the two were one; `size` 0: there are none */
static const uint8_t *memory;

static const esp_partition_t *find(const char *label)
{
    return esp_partition_find_first(ESP_PARTITION_TYPE_ANY, ESP_PARTITION_SUBTYPE_ANY, label);
}

/* Stays mapped for good. */
static const void *map(const esp_partition_t *partition)
{
    const void *mapped = NULL;
    handle_t handle;
    return esp_partition_mmap(partition, 0, partition->size, AS_DATA, &mapped, &handle) == ESP_OK ? mapped : NULL;
}

#if defined(DHN_MODEL_PARTITION)

static const dhn_header_t nothing; /* a network that the runtime refuses */
const uint8_t *model_pack = (const uint8_t *)&nothing;
uint32_t model_pack_bytes = sizeof nothing;

static void find_model(void)
{
    const esp_partition_t *partition = find("dhn_model");
    const void *mapped = partition == NULL ? NULL : map(partition);
    if (mapped == NULL)
        return;
    model_pack = mapped;
    model_pack_bytes = partition->size;
}

#endif

void flash_start(void)
{
#if defined(DHN_MODEL_PARTITION)
    find_model();
#endif
    const esp_partition_t *first = find("dhn_hooks0"), *second = find("dhn_hooks1");
    if (first == NULL || second == NULL || first->size != second->size || first->size % SECTOR != 0 ||
        second->address != first->address + first->size)
        return;
    both = *first;
    both.size += second->size;
    memory = map(&both);
    if (memory == NULL)
        both.size = 0;
}

uint32_t hal_flash_bytes(void)
{
    return both.size;
}

uint32_t hal_flash_page_bytes(void)
{
    return SECTOR;
}

const uint8_t *hal_flash(void)
{
    return memory;
}

/* The driver refuses what is outside the partition, and brings the mapping up to date. */
int hal_flash_erase(uint32_t page_offset)
{
    return esp_partition_erase_range(&both, page_offset, SECTOR) == ESP_OK ? 0 : -1;
}

int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes)
{
    return esp_partition_write(&both, offset, from, bytes) == ESP_OK ? 0 : -1;
}

#endif
