/* Fully connected layers: eight channels by two products per multiply-accumulate, or four channels one by one. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* Order: while a row's outputs are written its inputs are still read; the rows before it are done with. */

enum { FIELD = 23, PAIRS = 4, CHUNK = 252 };

typedef struct {
    dhn_wide_t a, b, c, d;
} pairs_t;

DHN_INNER void step_pairs(int32_t x, const int32_t *w, pairs_t *s)
{
    dhn_wide_mac(&s->a, w[0], x);
    dhn_wide_mac(&s->b, w[1], x);
    dhn_wide_mac(&s->c, w[2], x);
    dhn_wide_mac(&s->d, w[3], x);
}

/* Words hold two channels' weights, w0 + w1 * 2^23, and 64 bits both channels' sums: |s| <= 252 * 2^14 < 2^22. */
DHN_INNER pairs_t multiply_pairs(const int8_t *x, const int32_t *w, int32_t count)
{
    pairs_t s = {{0, 0}, {0, 0}, {0, 0}, {0, 0}};
    for (const int8_t *const end = x + (count & ~3); x != end; x += 4, w += 4 * PAIRS) {
        step_pairs(x[0], w, &s);
        step_pairs(x[1], w + PAIRS, &s);
        step_pairs(x[2], w + 2 * PAIRS, &s);
        step_pairs(x[3], w + 3 * PAIRS, &s);
    }
    for (count &= 3; count > 0; count--, w += PAIRS) {
        step_pairs(*x++, w, &s);
    }
    return s;
}

DHN_INNER void take_apart(dhn_wide_t sum, int32_t acc[2])
{
    int32_t const low = (int32_t)(sum.low << (32 - FIELD)) >> (32 - FIELD);
    acc[0] += low;
    acc[1] += (int32_t)((dhn_wide_value(sum) - low) >> FIELD);
}

static void row_of_pairs(const dhn_fc_t *p, const dhn_io_t *io, const int8_t *in, int8_t *out)
{
    dhn_output_t const o = {p->act_min, p->act_max, 1};
    const int32_t *w = (const void *)(io->consts + p->weight);
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    for (int32_t c = 0; c < p->out_c; c += 2 * PAIRS) {
        int32_t acc[2 * PAIRS] = {0};
        for (int32_t k = 0; k < p->in_c; k += CHUNK) {
            int32_t const count = (p->in_c - k < CHUNK) ? p->in_c - k : CHUNK;
            pairs_t const sums = multiply_pairs(in + k, w, count);
            w += count * PAIRS;
            take_apart(sums.a, acc);
            take_apart(sums.b, acc + 2);
            take_apart(sums.c, acc + 4);
            take_apart(sums.d, acc + 6);
        }
        for (int32_t i = 0; i < 2 * PAIRS; i++, row++) {
            if (c + i < p->out_c) {
                dhn_put(&o, row, acc[i] + row->bias, out++);
            }
        }
    }
}

dhn_kernel_fn dhn_fc_pairs_s8__portable;
void dhn_fc_pairs_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    for (int32_t row = 0; row < p->rows; row++) {
        row_of_pairs(p, io, io->in0 + row * p->in_c, io->out + row * p->out_c);
    }
}

/* Four channels' weights side by side. */
DHN_INNER void multiply_quads(const int8_t *x, const int8_t *w, int32_t count, int32_t total[4])
{
    int32_t s[4] = {total[0], total[1], total[2], total[3]};
    for (const int8_t *const end = x + (count & ~3); x != end; x += 4, w += 16) {
        dhn_step_quads(x[0], w, s);
        dhn_step_quads(x[1], w + 4, s);
        dhn_step_quads(x[2], w + 8, s);
        dhn_step_quads(x[3], w + 12, s);
    }
    for (count &= 3; count > 0; count--, w += 4) {
        dhn_step_quads(*x++, w, s);
    }
    memcpy(total, s, sizeof s);
}

static void row_of_quads(const dhn_fc_t *p, const dhn_io_t *io, const int8_t *in, int8_t *out)
{
    dhn_output_t const o = {p->act_min, p->act_max, 1};
    const int8_t *w = (const int8_t *)(io->consts + p->weight);
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    for (int32_t c = 0; c < p->out_c; w += 4 * p->in_c) {
        int32_t sum[4] = {row[0].bias, row[1].bias, row[2].bias, row[3].bias};
        multiply_quads(in, w, p->in_c, sum);
#pragma GCC unroll 4
        for (int32_t i = 0; i < 4; i++, c++, row++) {
            if (c < p->out_c) {
                dhn_put(&o, row, sum[i], out++);
            }
        }
    }
}

dhn_kernel_fn dhn_fc_quads_s8__portable;
void dhn_fc_quads_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    for (int32_t row = 0; row < p->rows; row++) {
        row_of_quads(p, io, io->in0 + row * p->in_c, io->out + row * p->out_c);
    }
}
