/* The HAL as a process: the link is a pty or an inherited socket, flash is a file. */
/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "hal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "nor_flash.h"

/* Options: --flash FILE (default flash.img, created when missing), --fd N (the link is this open descriptor; default: a
 * new pty whose path goes to standard output). */

enum { FLASH_BYTES = NOR_FLASH_BYTES, SEND_PATIENCE_MS = 1000, TICK_HZ = 10000000 };

static int link_fd = -1;
static uint8_t *flash;
static char **start_argv;

static void die(const char *what)
{
    (void)fprintf(stderr, "dhn: %s: %s\n", what, strerror(errno));
    exit(1);
}

static const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return otherwise;
}

static int open_pty(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        die("pty");
    const char *path = ptsname(master);
    int slave = open(path, O_RDWR | O_NOCTTY); /* stays open: a master without any slave reports errors */
    struct termios mode;
    if (slave < 0 || tcgetattr(slave, &mode) != 0)
        die(path);
    cfmakeraw(&mode);
    if (tcsetattr(slave, TCSANOW, &mode) != 0)
        die(path);
    (void)printf("%s\n", path);
    (void)fflush(stdout);
    return master;
}

static uint8_t *open_flash(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || ftruncate(fd, FLASH_BYTES) != 0)
        die(path);
    uint8_t *map = mmap(NULL, FLASH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        die(path);
    (void)close(fd);
    if (info.st_size < FLASH_BYTES) /* a new chip comes erased */
        memset(map + info.st_size, 0xFF, FLASH_BYTES - (size_t)info.st_size);
    return map;
}

void hal_init(int argc, char **argv)
{
    start_argv = argv;
    const char *fd = option(argc, argv, "--fd", NULL);
    flash = open_flash(option(argc, argv, "--flash", "flash.img"));
    link_fd = fd != NULL ? atoi(fd) : open_pty();
    if (fcntl(link_fd, F_SETFL, fcntl(link_fd, F_GETFL) | O_NONBLOCK) != 0)
        die("link");
}

size_t hal_read(uint8_t *to, size_t capacity)
{
    ssize_t count = read(link_fd, to, capacity);
    if (count == 0)
        exit(0); /* whoever started us with a socket is gone */
    return count > 0 ? (size_t)count : 0;
}

/* Small writes are gathered, as a UART's driver does. */
static uint8_t out[4096];
static size_t out_bytes;

static void flush(void)
{
    size_t sent = 0;
    while (sent < out_bytes) {
        ssize_t count = write(link_fd, out + sent, out_bytes - sent);
        if (count > 0) {
            sent += (size_t)count;
            continue;
        }
        struct pollfd what = {.fd = link_fd, .events = POLLOUT};
        if (errno != EAGAIN || poll(&what, 1, SEND_PATIENCE_MS) <= 0)
            break; /* nobody listens: bytes fall off the line */
    }
    out_bytes = 0;
}

void hal_write(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (out_bytes == sizeof out)
            flush();
        out[out_bytes++] = from[i];
    }
}

uint32_t hal_read_overflow(void)
{
    return 0;
}

int hal_set_baud(uint32_t baud)
{
    (void)baud;
    return 0; /* a pty has no speed */
}

void hal_idle(void)
{
    flush();
    struct pollfd what = {.fd = link_fd, .events = POLLIN};
    (void)poll(&what, 1, 100);
}

uint32_t hal_ticks(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * TICK_HZ + (uint64_t)now.tv_nsec / (1000000000 / TICK_HZ));
}

uint32_t hal_tick_hz(void)
{
    return TICK_HZ;
}

uint8_t *nor_flash_memory(void)
{
    return flash;
}

uint32_t hal_random_seed(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec << 12 ^ (uint32_t)getpid() << 20;
}

/* Starts the same program again on the same link. */
uint8_t *hal_stack_limit(void)
{
    return NULL;
}

void hal_reset(void)
{
    char number[16];
    flush();
    (void)snprintf(number, sizeof number, "%d", link_fd);
    const char *flash_path = "flash.img";
    for (int i = 1; start_argv[i] != NULL && start_argv[i + 1] != NULL; i++)
        if (strcmp(start_argv[i], "--flash") == 0)
            flash_path = start_argv[i + 1];
    (void)execl("/proc/self/exe", start_argv[0], "--fd", number, "--flash", flash_path, (char *)NULL);
    die("reset");
    abort();
}
