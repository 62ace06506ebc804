/* The line to the host: a UART (uart_line.c), or the chip's own USB (usb_line.c, with DHN_USB_SERIAL). */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINE_H
#define LINE_H

#include <stddef.h>
#include <stdint.h>

#include "app_config.h"

/* While a network runs nobody reads: the driver's buffer holds a frame, and as much again. */
enum { LINE_ROOM = 2 * (APP_MTU + 16), LINE_PATIENCE_MS = 1000 };

void line_start(void);

/* Waits up to `wait_ms` for the first byte. Returns how many there are, none with an error too. */
size_t line_read(uint8_t *to, size_t capacity, uint32_t wait_ms);

/* Hands the bytes to the driver; gives up where nobody takes them. */
void line_write(const uint8_t *from, size_t bytes);

/* Waits until what was written is out. */
void line_flush(void);

/* 0: done. */
int line_set_baud(uint32_t baud);

#endif
