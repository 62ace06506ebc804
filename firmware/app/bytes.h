/* Little-endian numbers in byte buffers, with bounds. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Reads from `at` towards `end`; the first read beyond clears `ok`, and it and all later ones give 0. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    bool ok;
} reader_t;

/* Writes into at[0..capacity); what does not fit clears `ok` and is left out. */
typedef struct {
    uint8_t *at;
    uint32_t count;
    uint32_t capacity;
    bool ok;
} writer_t;

static inline const uint8_t *get_bytes(reader_t *self, uint32_t count)
{
    const uint8_t *from = self->at;
    if (!self->ok || (uint32_t)(self->end - self->at) < count) {
        self->ok = false;
        return NULL;
    }
    self->at += count;
    return from;
}

static inline uint32_t get_left(const reader_t *self)
{
    return (uint32_t)(self->end - self->at);
}

static inline uint32_t get_u32(reader_t *self)
{
    const uint8_t *b = get_bytes(self, 4);
    return b == NULL ? 0 : (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint16_t get_u16(reader_t *self)
{
    const uint8_t *b = get_bytes(self, 2);
    return (uint16_t)(b == NULL ? 0 : b[0] | b[1] << 8);
}

static inline uint8_t get_u8(reader_t *self)
{
    const uint8_t *b = get_bytes(self, 1);
    return b == NULL ? 0 : b[0];
}

static inline void put_bytes(writer_t *self, const void *from, uint32_t count)
{
    if (!self->ok || self->capacity - self->count < count) {
        self->ok = false;
        return;
    }
    memcpy(self->at + self->count, from, count);
    self->count += count;
}

static inline void put_u8(writer_t *self, uint8_t value)
{
    put_bytes(self, &value, 1);
}

static inline void put_u16(writer_t *self, uint16_t value)
{
    const uint8_t b[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    put_bytes(self, b, 2);
}

static inline void put_u32(writer_t *self, uint32_t value)
{
    const uint8_t b[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    put_bytes(self, b, 4);
}

#endif
