/* The HAL on ESP-IDF 5 and later: time, sleep, restart, and the line (line.h). Flash is in esp_slots.c. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include <esp_cpu.h>
#include <esp_random.h>
#include <esp_rom_sys.h>
#include <esp_system.h>

#include "esp_slots.h"
#include "hal.h"
#include "line.h"

enum { IDLE_MS = 100 };

/* Small writes are gathered. */
static uint8_t out[256];
static size_t out_bytes;

/* What hal_idle waited for. */
static uint8_t ahead;
static bool has_ahead;

static void send_out(void)
{
    if (out_bytes > 0)
        line_write(out, out_bytes);
    out_bytes = 0;
}

void hal_init(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    line_start();
    flash_start();
}

size_t hal_read(uint8_t *to, size_t capacity)
{
    if (!has_ahead || capacity == 0)
        return line_read(to, capacity, 0);
    to[0] = ahead;
    has_ahead = false;
    return 1 + line_read(to + 1, capacity - 1, 0);
}

void hal_write(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (out_bytes == sizeof out)
            send_out();
        out[out_bytes++] = from[i];
    }
}

uint32_t hal_read_overflow(void)
{
    return 0; /* the drivers do not count it */
}

int hal_set_baud(uint32_t baud)
{
    send_out();
    line_flush();
    return line_set_baud(baud);
}

/* Other tasks run meanwhile, the idle task among them, which feeds its watchdog. */
void hal_idle(void)
{
    send_out();
    if (!has_ahead)
        has_ahead = line_read(&ahead, 1, IDLE_MS) == 1;
}

uint32_t hal_ticks(void)
{
    return (uint32_t)esp_cpu_get_cycle_count(); /* of this core; the main task stays on one */
}

uint32_t hal_tick_hz(void)
{
    return esp_rom_get_cpu_ticks_per_us() * 1000000u;
}

uint8_t *hal_stack_limit(void)
{
    return NULL; /* the last words of a task's stack are FreeRTOS's, to find overflows by */
}

uint32_t hal_random_seed(void)
{
    return esp_random();
}

void hal_reset(void)
{
    send_out();
    line_flush();
    esp_restart();
}
