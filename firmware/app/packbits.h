/* PackBits: run-length code for played inputs, whose background is often one value. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PACKBITS_H
#define PACKBITS_H

#include <stdint.h>

/* A header byte n as int8: 0..127 copies the next n + 1 bytes, -127..-1 repeats the next byte 1 - n times, -128 is
 * nothing (Apple Technical Note TN1023). Returns the number of bytes written, or -1 when `from` is cut short or holds
 * more than `capacity`. */
int32_t packbits_decode(const uint8_t *from, uint32_t bytes, uint8_t *to, uint32_t capacity);

#endif
