/* The HAL on QEMU's RISC-V virt machine. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "hal.h"

#include "nor_flash.h"

/* NS16550A UART at one byte per register. */
#define UART ((volatile uint8_t *)0x10000000u)
enum { UART_DATA = 0, UART_INTERRUPTS = 1, UART_FIFO = 2, UART_STATE = 5 };
enum { RX_INTERRUPT = 1, FIFO_ON = 1, STATE_RX = 1, STATE_TX_ROOM = 32 };

/* Platform-level interrupt controller, hart 0 in machine mode; the UART is source 10 (hw/riscv/virt.c). */
#define PLIC_PRIORITY(source) (*(volatile uint32_t *)(0x0C000000u + 4u * (source)))
#define PLIC_ENABLE (*(volatile uint32_t *)0x0C002000u)
#define PLIC_THRESHOLD (*(volatile uint32_t *)0x0C200000u)
#define PLIC_CLAIM (*(volatile uint32_t *)0x0C200004u)
enum { UART_SOURCE = 10 };

#define MIE_EXTERNAL 0x800u

/* SiFive's test finisher. */
#define FINISHER (*(volatile uint32_t *)0x00100000u)
#define FINISHER_RESET 0x7777u

/* One instruction is one virtual nanosecond. */
#define CLOCK_HZ 1000000000u

/* The start of the machine's RAM, which QEMU keeps in a file. */
#define FLASH_BASE 0x80000000u

void hal_init(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    UART[UART_FIFO] = FIFO_ON;
    UART[UART_INTERRUPTS] = RX_INTERRUPT;
    PLIC_PRIORITY(UART_SOURCE) = 1;
    PLIC_ENABLE = 1u << UART_SOURCE;
    PLIC_THRESHOLD = 0;
    __asm volatile("csrs mie, %0" : : "r"(MIE_EXTERNAL));
}

size_t hal_read(uint8_t *to, size_t capacity)
{
    size_t count = 0;
    while (count < capacity && (UART[UART_STATE] & STATE_RX))
        to[count++] = UART[UART_DATA];
    return count;
}

void hal_write(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        while (!(UART[UART_STATE] & STATE_TX_ROOM)) {
        }
        UART[UART_DATA] = from[i];
    }
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
    /* Interrupts are masked as a whole: WFI wakes on a pending one, nothing is taken. */
    if (!(UART[UART_STATE] & STATE_RX))
        __asm volatile("wfi" ::: "memory");
    uint32_t const source = PLIC_CLAIM;
    if (source != 0)
        PLIC_CLAIM = source;
}

uint32_t hal_ticks(void)
{
    uint32_t count;
    __asm volatile("csrr %0, minstret" : "=r"(count));
    return count;
}

uint32_t hal_tick_hz(void)
{
    return CLOCK_HZ;
}

uint8_t *nor_flash_memory(void)
{
    return (uint8_t *)FLASH_BASE;
}

/* Survives hal_reset; whatever an earlier emulator left there is as good. */
static uint32_t starts __attribute__((section(".noinit")));

uint32_t hal_random_seed(void)
{
    starts++;
    return hal_ticks() ^ starts * 2654435761u;
}

extern uint8_t stack_limit[]; /* of rv32virt.ld */

uint8_t *hal_stack_limit(void)
{
    return stack_limit;
}

void hal_reset(void)
{
    FINISHER = FINISHER_RESET;
    for (;;) {
    }
}
