/* The HAL on QEMU's Xtensa sim machine, whose devices are simulator calls. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "hal.h"

#include <stdbool.h>
#include <string.h>

#include "nor_flash.h"

/* Simulator calls (target/xtensa/xtensa-semi.c in QEMU): number in a2, arguments in a3 to a6, result in a2. */
enum { SIM_READ = 3, SIM_WRITE = 4, SIM_OPEN = 5, SIM_SEEK = 19, SIM_SELECT = 29, SIM_ARGC = 1000, SIM_ARGV = 1002 };
enum { CONSOLE_IN = 0, CONSOLE_OUT = 1, SELECT_READ = 1, OPEN_READ_WRITE = 2, FROM_START = 0 };

/* 40 MHz in QEMU's core; with -icount shift=10 one instruction is 1,024 ns, 40.96 cycles. */
#define INSTRUCTIONS_HZ 976562u
#define IDLE_CYCLES 40000u /* 1 ms */
#define TIMER_INTERRUPT (1u << 6)

/* Times that the cycle counter's top bit has changed, and two words in which the interrupt (start.c) keeps registers. */
extern volatile uint32_t xtensa_halves[3];
volatile uint32_t xtensa_halves[3];

/* What the flash file holds. Survives hal_reset. */
static uint8_t flash[NOR_FLASH_BYTES] __attribute__((aligned(16), section(".noinit")));
static int32_t flash_file;
static uint32_t starts __attribute__((section(".noinit")));

void start_reset(void) __attribute__((noreturn));

static int32_t sim_call(int32_t number, uint32_t first, uint32_t second, uint32_t third)
{
    register int32_t a2 __asm("a2") = number;
    register uint32_t a3 __asm("a3") = first;
    register uint32_t a4 __asm("a4") = second;
    register uint32_t a5 __asm("a5") = third;
    __asm volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
    return a2;
}

static inline uint32_t cycles(void)
{
    uint32_t count;
    __asm volatile("rsr %0, ccount" : "=r"(count));
    return count;
}

static inline void compare(uint32_t at)
{
    __asm volatile("wsr %0, ccompare0\n esync" : : "r"(at));
}

static void load_flash(void)
{
    static uint32_t arguments[256]; /* pointers, then the texts */
    flash_file = -1;
    memset(flash, 0xFF, sizeof flash);
    if (sim_call(SIM_ARGC, 0, 0, 0) < 2)
        return;
    (void)sim_call(SIM_ARGV, (uint32_t)arguments, 0, 0);
    flash_file = sim_call(SIM_OPEN, arguments[1], OPEN_READ_WRITE, 0);
    if (flash_file >= 0)
        (void)sim_call(SIM_READ, (uint32_t)flash_file, (uint32_t)flash, sizeof flash);
}

int nor_flash_save(uint32_t offset, uint32_t bytes)
{
    uint32_t const file = (uint32_t)flash_file;
    if (flash_file < 0 || sim_call(SIM_SEEK, file, offset, FROM_START) != (int32_t)offset)
        return -1;
    return sim_call(SIM_WRITE, file, (uint32_t)(flash + offset), bytes) == (int32_t)bytes ? 0 : -1;
}

void hal_init(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    xtensa_halves[0] = cycles() >> 31;
    compare((xtensa_halves[0] ^ 1u) << 31);
    __asm volatile("wsr %0, intenable\n wsr %1, ps\n rsync" : : "r"(TIMER_INTERRUPT), "r"(0));
    load_flash();
}

static bool arrived(void)
{
    static const uint32_t no_time[2] = {0, 0};
    return sim_call(SIM_SELECT, CONSOLE_IN, SELECT_READ, (uint32_t)no_time) > 0;
}

size_t hal_read(uint8_t *to, size_t capacity)
{
    if (!arrived())
        return 0;
    int32_t const count = sim_call(SIM_READ, CONSOLE_IN, (uint32_t)to, capacity);
    return count > 0 ? (size_t)count : 0;
}

void hal_write(const uint8_t *from, size_t bytes)
{
    if (bytes > 0)
        (void)sim_call(SIM_WRITE, CONSOLE_OUT, (uint32_t)from, bytes);
}

uint32_t hal_read_overflow(void)
{
    return 0; /* while nobody reads, the emulated line holds its bytes back */
}

int hal_set_baud(uint32_t baud)
{
    (void)baud;
    return -1;
}

void hal_idle(void)
{
    if (arrived())
        return;
    /* Nothing interrupts when a byte comes. */
    compare(cycles() + IDLE_CYCLES);
    __asm volatile("waiti 0" ::: "memory");
}

uint32_t hal_ticks(void)
{
    uint32_t halves, low;
    do {
        halves = xtensa_halves[0];
        low = cycles();
    } while (halves != xtensa_halves[0]);
    halves += (halves ^ (low >> 31)) & 1u; /* a change that the interrupt has not counted yet */
    uint64_t const count = ((uint64_t)(halves >> 1) << 32) | low;
    return (uint32_t)((count * 25u + 512u) >> 10);
}

uint32_t hal_tick_hz(void)
{
    return INSTRUCTIONS_HZ;
}

uint8_t *nor_flash_memory(void)
{
    return flash;
}

uint32_t hal_random_seed(void)
{
    starts++;
    return hal_ticks() ^ starts * 2654435761u;
}

extern uint8_t stack_limit[]; /* of xtensa_sim.ld */

uint8_t *hal_stack_limit(void)
{
    return stack_limit;
}

void hal_reset(void)
{
    start_reset();
}
