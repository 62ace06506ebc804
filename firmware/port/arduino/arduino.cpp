/* The HAL on Arduino cores: the link, sleep, restart. Ticks and flash are in files of their own. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <Arduino.h>

#include "family.h"
#include "parts.h"
#include "app_config.h"
#include "hal.h"

#if defined(FAMILY_ESP32)
#include <esp_random.h>
#elif defined(FAMILY_NRF52) && (defined(ARDUINO_ARCH_NRF52) || defined(ARDUINO_NRF52_ADAFRUIT))
#include <Adafruit_TinyUSB.h> /* Adafruit's core has its Serial there */
#endif

/* The line to the host: any object with Serial's methods. */
#ifndef DHN_SERIAL
#define DHN_SERIAL Serial
#endif

/* While a network runs nobody reads the line: the core's own buffer must hold a frame. USB needs none, there the host
 * waits. */
#if defined(FAMILY_STM32) && (!defined(SERIAL_RX_BUFFER_SIZE) || SERIAL_RX_BUFFER_SIZE < APP_MTU + 16)
#error "the core's receive buffer is smaller than a frame; build with -DSERIAL_RX_BUFFER_SIZE=2048"
#endif

/* Small writes are gathered: over USB each would be a packet. */
static uint8_t out[256];
static size_t out_bytes;
static uint32_t speed;

static void send_out()
{
    if (out_bytes > 0)
        (void)DHN_SERIAL.write(out, out_bytes);
    out_bytes = 0;
}

void hal_init(int argc, char **argv)
{
    (void)argc;
    (void)argv;
#if defined(FAMILY_ESP32) || defined(FAMILY_ESP8266)
    (void)DHN_SERIAL.setRxBufferSize(APP_MTU + 16); /* heard only before begin */
#endif
    DHN_SERIAL.begin(APP_BAUD);
    speed = APP_BAUD;
    ticks_start();
    flash_start();
}

size_t hal_read(uint8_t *to, size_t capacity)
{
    size_t count = 0;
    while (count < capacity && DHN_SERIAL.available() > 0)
        to[count++] = static_cast<uint8_t>(DHN_SERIAL.read());
    return count;
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
    return 0; /* cores do not count it */
}

int hal_set_baud(uint32_t baud)
{
    if (baud == speed)
        return 0;
    send_out();
    DHN_SERIAL.flush(); /* waits until the last byte is out */
    DHN_SERIAL.begin(baud);
    speed = baud;
    return 0;
}

void hal_idle(void)
{
    send_out();
#if defined(FAMILY_ESP32)
    delay(1); /* the idle task must run now and then, or its watchdog bites */
#else
    yield();
#endif
}

uint8_t *hal_stack_limit(void)
{
    return nullptr; /* where the stack ends is the core's business */
}

uint32_t hal_random_seed(void)
{
#if defined(FAMILY_ESP32)
    return esp_random();
#elif defined(FAMILY_ESP8266)
    return *reinterpret_cast<volatile uint32_t *>(
        0x3FF20E44u); /* the hardware's generator: esp8266_peri.h, RANDOM_REG32 */
#elif defined(FAMILY_RP2040)
    return rp2040.hwrand32(); /* RP2040Support.h */
#else
    /* What an open pin reads, and when: not random, but rarely the same twice. The host stirs in more (HELLO). */
    uint32_t seed = 0;
    for (int i = 0; i < 16; i++)
        seed = seed * 2654435761u + static_cast<uint32_t>(analogRead(A0)) + static_cast<uint32_t>(micros());
    return seed;
#endif
}

void hal_reset(void)
{
    send_out();
    DHN_SERIAL.flush();
    delay(20); /* a USB packet is out when the host has fetched it */
#if defined(FAMILY_ESP32) || defined(FAMILY_ESP8266)
    ESP.restart(); /* Esp.h */
#elif defined(FAMILY_RP2040)
    rp2040.reboot(); /* RP2040Support.h */
#elif defined(__ARM_ARCH)
    restart_core();
#else
    restart(); /* of a core that none of the above is for: the sketch's author supplies it */
#endif
    for (;;) {
    }
}
