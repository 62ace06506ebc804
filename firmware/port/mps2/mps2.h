/* What the boards of the MPS2 family differ in; port.cmake defines it. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MPS2_H
#define MPS2_H

/* MPS2_UART        address of UART 0
 * MPS2_UART_IRQ    number of its receive interrupt
 * MPS2_CLOCK_HZ    of the core, which SysTick counts
 * MPS2_FLASH_BASE  memory that QEMU keeps in a file, for both slots */
#if !defined(MPS2_UART) || !defined(MPS2_UART_IRQ) || !defined(MPS2_CLOCK_HZ) || !defined(MPS2_FLASH_BASE)
#error "the port's port.cmake defines these"
#endif

/* Of mps2.c, for the vector table. */
void mps2_uart_rx(void);
void mps2_systick(void);

#endif
