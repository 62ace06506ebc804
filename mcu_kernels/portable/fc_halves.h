/* Fully connected layers by 32-bit products that hold two steps of one channel each. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_FC_HALVES_H
#define DHN_FC_HALVES_H

#include "portable/scalar.h"

/* A word of values is x0 + x1 * 2^16, a word of weights w1 + w0 * 2^16. Modulo 2^32 their product is
 * (x0 * w0 + x1 * w1) * 2^16 + x0 * w1: both steps in the upper half, and below them one that is rounded away, since
 * |x0 * w1| <= 2^14. The host sees to |w0| + |w1| <= 255, so that |x0 * w0 + x1 * w1| <= 128 * 255 < 2^15.
 *
 * Per two steps a weight, a product and three more instructions: 2.5 instructions per product, and what loading values costs,
 * shared by a group's channels.
 *
 * Order: a row of inputs is copied to scratch before any of its outputs is written; the next rows are still to be read. */

enum { DHN_HALVES_STEPS = 8, DHN_HALVES_WORDS = DHN_HALVES_STEPS / 2 };

typedef struct {
    int32_t a, b, c, d;
} dhn_halves_t;

/* *sum += both steps of word x with word w. `half` is 2^15, kept in a register. */
DHN_INNER void dhn_halves_mac(int32_t *sum, int32_t x, int32_t w, int32_t half)
{
    uint32_t const product = (uint32_t)x * (uint32_t)w + (uint32_t)half;
    *sum = (int32_t)((uint32_t)*sum + (uint32_t)((int32_t)product >> 16));
    dhn_keep(sum);
}

DHN_INNER void dhn_halves_step(int32_t x, const int32_t *w, int32_t half, dhn_halves_t *s)
{
    dhn_halves_mac(&s->a, x, w[0], half);
    dhn_halves_mac(&s->b, x, w[1], half);
    dhn_halves_mac(&s->c, x, w[2], half);
    dhn_halves_mac(&s->d, x, w[3], half);
}

/* One word of values meets all channels of a group: one or two times four. */
DHN_INNER void dhn_halves_word(int32_t x, const int32_t *w, int32_t half, int32_t quads, dhn_halves_t s[2])
{
    dhn_halves_step(x, w, half, &s[0]);
    if (quads > 1) {
        dhn_halves_step(x, w + 4, half, &s[1]);
    }
}

/* `words`, a multiple of DHN_HALVES_WORDS. Sums start at the channels' biases. */
DHN_INNER void dhn_halves_group(const int32_t *x, int32_t words, const int32_t *w, int32_t quads, dhn_halves_t s[2])
{
    int32_t const channels = 4 * quads;
    int32_t half = 1 << 15;
    dhn_keep(&half);
    for (const int32_t *const end = x + words; x != end; x += DHN_HALVES_WORDS, w += DHN_HALVES_WORDS * channels) {
        dhn_halves_word(x[0], w, half, quads, s);
        dhn_halves_word(x[1], w + channels, half, quads, s);
        dhn_halves_word(x[2], w + 2 * channels, half, quads, s);
        dhn_halves_word(x[3], w + 3 * channels, half, quads, s);
    }
}

DHN_INNER int32_t dhn_halves_join(int32_t first, int32_t second)
{
    return (int32_t)((uint32_t)first + ((uint32_t)second << 16));
}

/* A row's values as words, filled up with zeros. */
static inline void dhn_halves_copy(const int8_t *from, int32_t count, int32_t words, int32_t *to)
{
    int32_t *const end = to + words;
    for (; count >= 2; count -= 2, from += 2) {
        *to++ = dhn_halves_join(from[0], from[1]);
    }
    if (count > 0) {
        *to++ = *from;
    }
    while (to != end) {
        *to++ = 0;
        __asm volatile("");
    }
}

DHN_INNER dhn_halves_t dhn_halves_biases(const dhn_row_t *row)
{
    return (dhn_halves_t){row[0].bias, row[1].bias, row[2].bias, row[3].bias};
}

/* The first `count` of four. */
DHN_INNER int8_t *dhn_halves_store(const dhn_output_t *o, const dhn_row_t *row, dhn_halves_t s, int32_t count,
                                   int8_t *out)
{
    int32_t const acc[4] = {s.a, s.b, s.c, s.d};
    for (int32_t i = 0; i < 4 && i < count; i++, row++) {
        int32_t const y = dhn_scale(acc[i], row->multiplier, row->half, row->shift);
        *out++ = (int8_t)dhn_limit(y, o->low, o->high);
    }
    return out;
}

/* The whole layer, 4 * quads channels at a time. */
DHN_INNER void dhn_fc_halves(const dhn_fc_t *p, const dhn_io_t *io, int32_t quads)
{
    int32_t const words = (p->in_c + DHN_HALVES_STEPS - 1) / DHN_HALVES_STEPS * DHN_HALVES_WORDS;
    dhn_output_t const o = {p->act_min, p->act_max, 1};
    const int8_t *in = io->in0;
    int8_t *out = io->out;
    for (int32_t rows = p->rows; rows > 0; rows--, in += p->in_c) {
        const int32_t *w = (const void *)(io->consts + p->weight);
        const dhn_row_t *row = (const void *)(io->consts + p->bias);
        dhn_halves_copy(in, p->in_c, words, io->scratch);
        for (int32_t left = p->out_c; left > 0; left -= 4 * quads, row += 4 * quads, w += 4 * quads * words) {
            dhn_halves_t s[2] = {dhn_halves_biases(row), {0, 0, 0, 0}};
            if (quads > 1) {
                s[1] = dhn_halves_biases(row + 4);
            }
            dhn_halves_group(io->scratch, words, w, quads, s);
            out = dhn_halves_store(&o, row, s[0], left, out);
            if (quads > 1) {
                out = dhn_halves_store(&o, row + 4, s[1], left - 4, out);
            }
        }
    }
}

#endif
