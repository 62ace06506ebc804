/* ESP-IDF of sorts: a process whose UART is an inherited socket and whose partitions are files. */
/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <driver/uart.h>
#include <esp_cpu.h>
#include <esp_partition.h>
#include <esp_random.h>
#include <esp_rom_sys.h>
#include <esp_system.h>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void app_main(void);

enum { SLOT = 65536, SECTOR = 4096, MODEL_AT = 0x10000, HOOKS_AT = 0x3B0000, FAILED = -1 };

/* Arguments: --flash FILE --fd N, as the posix port takes them. The file holds the partitions for hooks, as far as they fit;
 * the one for the network is the file beside the program. */
static char **arguments;
static int line = -1;
static uint8_t *hooks, *model;
static size_t hooks_bytes;

static esp_partition_t table[] = {
    {.address = MODEL_AT, .label = "dhn_model"},
    {.address = HOOKS_AT, .size = SLOT, .erase_size = SECTOR, .label = "dhn_hooks0"},
    {.address = HOOKS_AT + SLOT, .size = SLOT, .erase_size = SECTOR, .label = "dhn_hooks1"},
};

static const char *option(const char *name)
{
    for (int i = 1; arguments[i] != NULL && arguments[i + 1] != NULL; i++)
        if (strcmp(arguments[i], name) == 0)
            return arguments[i + 1];
    abort();
}

static void *map_file(const char *path, int access, size_t *bytes)
{
    struct stat info;
    int const file = open(path, access);
    if (file < 0 || fstat(file, &info) != 0)
        abort();
    *bytes = (size_t)info.st_size;
    void *const map = mmap(NULL, *bytes, access == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        abort();
    return map;
}

/* -- driver/uart.h */

esp_err_t uart_driver_install(uart_port_t port, int rx_bytes, int tx_bytes, int queue, QueueHandle_t *handle, int flags)
{
    (void)port;
    (void)tx_bytes;
    (void)queue;
    (void)handle;
    (void)flags;
    return rx_bytes > 128 ? ESP_OK : FAILED; /* the driver wants more than its hardware's FIFO holds */
}

esp_err_t uart_param_config(uart_port_t port, const uart_config_t *config)
{
    (void)port;
    return config->data_bits == UART_DATA_8_BITS && config->stop_bits == UART_STOP_BITS_1 ? ESP_OK : FAILED;
}

esp_err_t uart_set_pin(uart_port_t port, int tx, int rx, int rts, int cts)
{
    (void)port;
    (void)tx;
    (void)rx;
    (void)rts;
    (void)cts;
    return ESP_OK;
}

esp_err_t uart_set_baudrate(uart_port_t port, uint32_t baud)
{
    (void)port;
    (void)baud;
    return ESP_OK;
}

esp_err_t uart_wait_tx_done(uart_port_t port, TickType_t ticks)
{
    (void)port;
    (void)ticks;
    return ESP_OK;
}

int uart_write_bytes(uart_port_t port, const void *from, size_t bytes)
{
    (void)port;
    for (size_t sent = 0; sent < bytes;) {
        ssize_t const count = write(line, (const uint8_t *)from + sent, bytes - sent);
        if (count <= 0)
            exit(0); /* whoever started us is gone */
        sent += (size_t)count;
    }
    return (int)bytes;
}

esp_err_t uart_get_buffered_data_len(uart_port_t port, size_t *bytes)
{
    int there = 0;
    (void)port;
    (void)ioctl(line, FIONREAD, &there);
    *bytes = (size_t)there;
    return ESP_OK;
}

/* As the driver's, it waits for all of `bytes`, or for the time to pass. */
int uart_read_bytes(uart_port_t port, void *to, uint32_t bytes, TickType_t ticks)
{
    uint32_t have = 0;
    struct pollfd what = {.fd = line, .events = POLLIN};
    (void)port;
    while (have < bytes && poll(&what, 1, (int)(ticks * 1000 / configTICK_RATE_HZ)) > 0) {
        ssize_t const count = read(line, (uint8_t *)to + have, bytes - have);
        if (count <= 0)
            exit(0);
        have += (uint32_t)count;
    }
    return (int)have;
}

/* -- esp_partition.h */

static bool fits(const esp_partition_t *partition)
{
    return partition->address - HOOKS_AT + partition->size <= hooks_bytes;
}

const esp_partition_t *esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype,
                                                const char *label)
{
    (void)type;
    (void)subtype;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].label, label) == 0 && (table[i].address < HOOKS_AT || fits(&table[i])))
            return &table[i];
    return NULL;
}

static uint8_t *at(const esp_partition_t *partition, size_t offset, size_t bytes)
{
    if (offset > partition->size || bytes > partition->size - offset || partition->address < HOOKS_AT)
        return NULL;
    return hooks + (partition->address - HOOKS_AT) + offset;
}

esp_err_t esp_partition_write(const esp_partition_t *partition, size_t offset, const void *from, size_t bytes)
{
    uint8_t *const to = at(partition, offset, bytes);
    for (size_t i = 0; to != NULL && i < bytes; i++)
        to[i] = (uint8_t)(to[i] & ((const uint8_t *)from)[i]);
    return to != NULL ? ESP_OK : FAILED;
}

esp_err_t esp_partition_erase_range(const esp_partition_t *partition, size_t offset, size_t bytes)
{
    uint8_t *const to = at(partition, offset, bytes);
    if (to == NULL || offset % SECTOR != 0 || bytes % SECTOR != 0)
        return FAILED;
    memset(to, 0xFF, bytes);
    return ESP_OK;
}

esp_err_t esp_partition_mmap(const esp_partition_t *partition, size_t offset, size_t bytes,
                             esp_partition_mmap_memory_t memory, const void **mapped,
                             esp_partition_mmap_handle_t *handle)
{
    *handle = 1;
    *mapped = partition->address == MODEL_AT ? model : at(partition, offset, bytes);
    return memory == ESP_PARTITION_MMAP_DATA && *mapped != NULL ? ESP_OK : FAILED;
}

/* -- The rest */

esp_cpu_cycle_count_t esp_cpu_get_cycle_count(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 240000000u + (uint64_t)now.tv_nsec * 240u / 1000u);
}

uint32_t esp_rom_get_cpu_ticks_per_us(void)
{
    return 240;
}

uint32_t esp_random(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint32_t)now.tv_nsec * 2654435761u ^ (uint32_t)getpid();
}

void esp_restart(void)
{
    (void)execv("/proc/self/exe", arguments);
    abort();
}

void _esp_error_check_failed(esp_err_t status, const char *file, int at_line, const char *function, const char *call)
{
    (void)status;
    (void)file;
    (void)at_line;
    (void)function;
    (void)call;
    abort();
}

int main(int argc, char **argv)
{
    size_t bytes;
    char path[512];
    (void)argc;
    arguments = argv;
    line = atoi(option("--fd"));
    hooks = map_file(option("--flash"), O_RDWR, &hooks_bytes);
    ssize_t const length = readlink("/proc/self/exe", path, sizeof path - 8);
    if (length <= 0)
        abort();
    strcpy(path + length, ".dhn");
    model = map_file(path, O_RDONLY, &bytes);
    table[0].size = (uint32_t)bytes;
    app_main();
}
