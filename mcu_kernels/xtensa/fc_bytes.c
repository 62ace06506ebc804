/* Fully connected layers, four output channels at a time, on bytes without signs: the LX106 loads no others. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* Weights are stored as w + 128 and values copied as x + 128. Then sum(x * w) is
 * sum((x + 128) * (w + 128)) - 128 * sum(x + 128) - 128 * sum(w): the last term is in the bias, the one before is found while
 * copying. All of it is exact modulo 2^32. Steps that fill up a multiple of 4 have x + 128 = 0.
 *
 * Per step a value and four weights, products and sums: 3.25 instructions per product.
 *
 * Order: a row of inputs is copied to scratch before any of its outputs is written; the next rows are still to be read. */

DHN_INNER void step(int32_t x, const uint8_t *w, int32_t s[4])
{
    dhn_mac(&s[0], x, w[0]);
    dhn_mac(&s[1], x, w[1]);
    dhn_mac(&s[2], x, w[2]);
    dhn_mac(&s[3], x, w[3]);
}

/* `count` is a multiple of 4. */
DHN_INNER void multiply(const uint8_t *x, const uint8_t *w, int32_t count, int32_t total[4])
{
    int32_t s[4] = {total[0], total[1], total[2], total[3]};
    for (const uint8_t *const end = x + count; x != end; x += 4, w += 16) {
        step(x[0], w, s);
        step(x[1], w + 4, s);
        step(x[2], w + 8, s);
        step(x[3], w + 12, s);
    }
    memcpy(total, s, sizeof s);
}

/* Copies a row's values as x + 128, filled up with zeros to `steps`, and returns 128 times their sum. */
static int32_t copy_biased(const int8_t *from, int32_t count, int32_t steps, uint8_t *to)
{
    uint32_t sum = 0;
    for (int32_t k = 0; k < steps; k++) {
        uint32_t const value = (k < count) ? (uint8_t)from[k] ^ 0x80u : 0u;
        to[k] = (uint8_t)value;
        sum += value;
    }
    return (int32_t)(sum << 7);
}

static void one_row(const dhn_fc_t *p, const dhn_io_t *io, const int8_t *in, int8_t *out)
{
    int32_t const steps = (p->in_c + 3) & ~3, low = p->act_min, high = p->act_max;
    int32_t const less = copy_biased(in, p->in_c, steps, io->scratch);
    const uint8_t *w = io->consts + p->weight;
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    for (int32_t left = p->out_c; left > 0; left -= 4, w += 4 * steps, row += 4) {
        int32_t s[4] = {row[0].bias - less, row[1].bias - less, row[2].bias - less, row[3].bias - less};
        multiply(io->scratch, w, steps, s);
        for (int32_t i = 0; i < 4 && i < left; i++) {
            int32_t const y = dhn_scale(s[i], row[i].multiplier, row[i].half, row[i].shift);
            *out++ = (int8_t)dhn_limit(y, low, high);
        }
    }
}

dhn_kernel_fn dhn_fc_bytes_s8__xtensa;
void dhn_fc_bytes_s8__xtensa(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    for (int32_t row = 0; row < p->rows; row++) {
        one_row(p, io, io->in0 + row * p->in_c, io->out + row * p->out_c);
    }
}
