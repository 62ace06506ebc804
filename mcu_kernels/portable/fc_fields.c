/* Fully connected layers from weights of one byte: two products per multiply-accumulate, four channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* A word holds the weights of four channels as bytes a + 128, d, c + 128, b from the lowest on. Its outer bytes are the
 * number a + 128 + b * 2^24, and once it is turned by half its length, c + 128 + d * 2^24: an AND each. 64 bits hold the
 * sums of both fields: the lower one stays within 256 * 128 * 255 < 2^23 for a chunk of inputs. What 128 adds is 128 times
 * the sum of the inputs.
 *
 * Per input a value, a word, two ANDs and two multiply-accumulates: 1.5 instructions per product.
 *
 * Order: while a row's outputs are written its inputs are still read; the rows before it are done with. */

enum { FIELD = 24, CHANNELS = 4, CHUNK = 256 };

typedef struct {
    dhn_wide_t ab, cd;
} fields_t;

DHN_INNER void step(int32_t x, uint32_t w, uint32_t outer, fields_t *s)
{
    dhn_wide_mac(&s->ab, (int32_t)(w & outer), x);
    dhn_wide_mac(&s->cd, (int32_t)(((w >> 16) | (w << 16)) & outer), x);
}

DHN_INNER fields_t multiply(const int8_t *x, const uint32_t *w, int32_t count)
{
    fields_t s = {{0, 0}, {0, 0}};
    uint32_t outer = 0xFF0000FFu;
    __asm("" : "+r"(outer)); /* in a register */
    for (const int8_t *const end = x + (count & ~7); x != end; x += 8, w += 8) {
#pragma GCC unroll 8
        for (int32_t i = 0; i < 8; i++) {
            step(x[i], w[i], outer, &s);
        }
    }
    for (count &= 7; count > 0; count--) {
        step(*x++, *w++, outer, &s);
    }
    return s;
}

DHN_INNER void take_apart(dhn_wide_t sum, int32_t acc[2])
{
    int32_t const low = (int32_t)(sum.low << (32 - FIELD)) >> (32 - FIELD);
    acc[0] += low;
    acc[1] += (int32_t)((dhn_wide_value(sum) - low) >> FIELD);
}

static int32_t sum_of(const int8_t *x, int32_t count)
{
    int32_t sum = 0;
    for (const int8_t *const end = x + count; x != end; x++) {
        sum += *x;
    }
    return sum;
}

static void one_row(const dhn_fc_t *p, const dhn_io_t *io, const int8_t *in, int8_t *out)
{
    dhn_output_t const o = {p->act_min, p->act_max, 1};
    const uint32_t *w = (const void *)(io->consts + p->weight);
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    int32_t const less = 128 * sum_of(in, p->in_c);
    for (int32_t c = 0; c < p->out_c; c += CHANNELS) {
        int32_t acc[CHANNELS] = {-less, 0, -less, 0};
        for (int32_t k = 0; k < p->in_c; k += CHUNK) {
            int32_t const count = (p->in_c - k < CHUNK) ? p->in_c - k : CHUNK;
            fields_t const sums = multiply(in + k, w, count);
            w += count;
            take_apart(sums.ab, acc);
            take_apart(sums.cd, acc + 2);
        }
        for (int32_t i = 0; i < CHANNELS; i++, row++) {
            if (c + i < p->out_c) {
                dhn_put(&o, row, acc[i] + row->bias, out++);
            }
        }
    }
}

dhn_kernel_fn dhn_fc_fields_s8__portable;
void dhn_fc_fields_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    for (int32_t row = 0; row < p->rows; row++) {
        one_row(p, io, io->in0 + row * p->in_c, io->out + row * p->out_c);
    }
}
