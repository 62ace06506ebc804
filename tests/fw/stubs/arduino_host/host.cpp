/* An Arduino core of sorts: a process whose Serial is an inherited socket and whose flash, with units of 256 bytes, is a file. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <Arduino.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "mapped_flash.h"
#include "parts.h"

/* Arguments: --flash FILE --fd N, as the posix port takes them. */
static char **arguments;
static int line = -1;
static uint8_t *flash;

HardwareSerial Serial;

static const char *option(const char *name)
{
    for (int i = 1; arguments[i] != nullptr && arguments[i + 1] != nullptr; i++)
        if (strcmp(arguments[i], name) == 0)
            return arguments[i + 1];
    abort();
}

static bool wait_for(short events, int timeout_ms)
{
    struct pollfd what = {line, events, 0};
    return poll(&what, 1, timeout_ms) > 0;
}

/* -- Serial, with a buffer as the cores have one. */

static uint8_t buffer[256];
static size_t buffered, taken;

void HardwareSerial::begin(unsigned long)
{
}

void HardwareSerial::flush()
{
}

int HardwareSerial::available()
{
    if (taken == buffered) {
        ssize_t const count = ::read(line, buffer, sizeof buffer);
        if (count == 0)
            exit(0); /* whoever started us is gone */
        buffered = count > 0 ? static_cast<size_t>(count) : 0u;
        taken = 0;
    }
    return static_cast<int>(buffered - taken);
}

int HardwareSerial::read()
{
    return available() > 0 ? buffer[taken++] : -1;
}

size_t HardwareSerial::write(uint8_t byte)
{
    return write(&byte, 1);
}

size_t HardwareSerial::write(const uint8_t *from, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        ssize_t const count = ::write(line, from + sent, size - sent);
        if (count > 0)
            sent += static_cast<size_t>(count);
        else if (errno != EAGAIN || !wait_for(POLLOUT, 1000))
            break;
    }
    return sent;
}

/* -- wiring */

unsigned long micros(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint32_t>(static_cast<uint64_t>(now.tv_sec) * 1000000u +
                                 static_cast<uint64_t>(now.tv_nsec) / 1000u);
}

void delay(unsigned long ms)
{
    (void)usleep(static_cast<useconds_t>(ms * 1000));
}

void yield(void)
{
    if (taken == buffered)
        (void)wait_for(POLLIN, 100);
}

int analogRead(uint8_t)
{
    return static_cast<int>(micros() % 1024);
}

void restart()
{
    (void)execv("/proc/self/exe", arguments);
    abort();
}

/* -- Flash: stricter than any chip's, so that the port is wrong here before it is wrong there. */

enum { UNIT = MAPPED_UNIT_MOST };

mapped_flash_t mapped_flash_open()
{
    uintptr_t const start = reinterpret_cast<uintptr_t>(flash);
    return {start, start, DHN_FLASH_PAGE, UNIT};
}

static size_t offset_of(const uint8_t *at, size_t multiple)
{
    size_t const offset = static_cast<size_t>(at - flash);
    if (at < flash || offset >= DHN_FLASH_BYTES || offset % multiple != 0)
        abort();
    return offset;
}

int mapped_flash_erase(const uint8_t *page)
{
    memset(flash + offset_of(page, DHN_FLASH_PAGE), 0xFF, DHN_FLASH_PAGE);
    return 0;
}

int mapped_flash_program(const uint8_t *at, const uint8_t *unit)
{
    uint8_t *const to = flash + offset_of(at, UNIT);
    bool changes = false;
    for (size_t i = 0; i < UNIT; i++) {
        changes = changes || (to[i] & ~unit[i]) != 0;
        to[i] = to[i] & unit[i];
    }
    if (!changes)
        abort(); /* a program that changes nothing wears the chip out */
    return 0;
}

int main(int, char **argv)
{
    arguments = argv;
    line = atoi(option("--fd"));
    int const file = open(option("--flash"), O_RDWR);
    void *const map = mmap(nullptr, DHN_FLASH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || map == MAP_FAILED || fcntl(line, F_SETFL, O_NONBLOCK) != 0)
        abort();
    flash = static_cast<uint8_t *>(map);
    setup();
    for (;;)
        loop();
}
