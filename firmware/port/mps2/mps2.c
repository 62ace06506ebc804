/* The HAL on Arm's MPS2 and MPS3 boards, as QEMU emulates them. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "hal.h"

#include "mps2.h"
#include "nor_flash.h"

/* CMSDK APB UART 0 (Arm DDI 0479, section 4.3). */
typedef struct {
    volatile uint32_t data, state, control, interrupt, baud_divider;
} uart_t;
#define UART0 ((uart_t *)MPS2_UART)
enum { UART_TX_FULL = 1, UART_RX_FULL = 2, UART_TX_ON = 1, UART_RX_ON = 2, UART_RX_INTERRUPT = 8, UART_RX_CLEAR = 2 };

/* Armv7-M system control space (Arm DDI 0403, section B3). */
#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define SCB_ICSR (*(volatile uint32_t *)0xE000ED04u)
#define SCB_AIRCR (*(volatile uint32_t *)0xE000ED0Cu)
#define NVIC_ISER ((volatile uint32_t *)0xE000E100u)
enum { SYST_ON = 7, SYST_PERIOD = 1 << 24, ICSR_PENDSTSET = 1 << 26 };
#define AIRCR_RESET 0x05FA0004u

/* One writer (the interrupt moves head), one reader (hal_read moves tail): needs no lock. */
enum { RING = 4096 };
static uint8_t ring[RING];
static volatile uint32_t ring_head, ring_tail;
static volatile uint32_t overflow;
static volatile uint32_t wraps;

void mps2_uart_rx(void)
{
    UART0->interrupt = UART_RX_CLEAR;
    while (UART0->state & UART_RX_FULL) {
        uint8_t byte = (uint8_t)UART0->data;
        if (ring_head - ring_tail < RING) {
            ring[ring_head % RING] = byte;
            ring_head++;
        } else {
            overflow++;
        }
    }
}

void mps2_systick(void)
{
    wraps++;
}

void hal_init(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    SYST_RVR = SYST_PERIOD - 1;
    SYST_CVR = 0;
    SYST_CSR = SYST_ON;
    UART0->baud_divider = 16; /* the smallest that the UART accepts; emulated lines do not wait */
    UART0->control = UART_TX_ON | UART_RX_ON | UART_RX_INTERRUPT;
    NVIC_ISER[MPS2_UART_IRQ / 32] = 1u << (MPS2_UART_IRQ % 32);
}

size_t hal_read(uint8_t *to, size_t capacity)
{
    uint32_t tail = ring_tail;
    size_t count = ring_head - tail;
    if (count > capacity)
        count = capacity;
    for (size_t i = 0; i < count; i++)
        to[i] = ring[(tail + i) % RING];
    ring_tail = tail + (uint32_t)count;
    return count;
}

void hal_write(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        while (UART0->state & UART_TX_FULL) {
        }
        UART0->data = from[i];
    }
}

uint32_t hal_read_overflow(void)
{
    return overflow;
}

int hal_set_baud(uint32_t baud)
{
    (void)baud;
    return -1;
}

void hal_idle(void)
{
    /* With interrupts masked WFI still wakes on a pending one, so no byte can slip in between test and sleep. */
    __asm volatile("cpsid i" ::: "memory");
    if (ring_head == ring_tail)
        __asm volatile("wfi");
    __asm volatile("cpsie i" ::: "memory");
}

uint32_t hal_ticks(void)
{
    uint32_t high, low;
    do {
        high = wraps;
        low = SYST_PERIOD - 1 - SYST_CVR;
    } while (high != wraps);
    return high * SYST_PERIOD + low;
}

uint32_t hal_tick_hz(void)
{
    return MPS2_CLOCK_HZ;
}

uint8_t *nor_flash_memory(void)
{
    return (uint8_t *)MPS2_FLASH_BASE;
}

/* Survives hal_reset, not a power cut. */
static uint32_t starts __attribute__((section(".noinit")));

uint32_t hal_random_seed(void)
{
    /* The emulated clock starts the same each time: only the count of starts differs. The host stirs in more (HELLO). */
    starts++;
    return hal_ticks() ^ starts * 2654435761u;
}

extern uint8_t stack_limit[]; /* of mps2.ld */

uint8_t *hal_stack_limit(void)
{
    return stack_limit;
}

void hal_reset(void)
{
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = AIRCR_RESET;
    for (;;) {
    }
}
