/* Softmax with a host-made table of exponentials: the specification of DHN_OP_SOFTMAX. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

/* The sum of exponentials is kept in Q12.19: up to 4,096 terms of at most 1. */
enum { SUM_INTEGER_BITS = 12 };

static int32_t leading_zeros(uint32_t x)
{
    int32_t n = 0;
    for (; n < 32 && !(x & 0x80000000u); n++) {
        x <<= 1;
    }
    return n;
}

/* 1 / (1 + x) for x in [0, 1), Q0.31 in and out: Newton-Raphson on a half denominator, three steps, in the number
 * formats of gemmlowp (Q2.29), whose roundings TFLite's results contain. */
static int32_t one_over_one_plus(int32_t x)
{
    int32_t const half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t const one = 1 << 29;
    int32_t y = 1515870810 + dhn_doubling_high(half, -1010580540); /* 48/17 - 32/17 * half, Q2.29 */
    for (int32_t i = 0; i < 3; i++) {
        int32_t const error = one - dhn_doubling_high(half, y);
        int32_t const step = dhn_doubling_high(y, error); /* Q4.27 */
        int32_t const limit = INT32_MAX >> 2;
        y += (step > limit) ? INT32_MAX : ((step < -limit - 1) ? INT32_MIN : (int32_t)((uint32_t)step << 2));
    }
    int32_t const limit = INT32_MAX >> 1; /* y / 2 in Q1.30 is y in Q0.31 shifted by one, saturating */
    return (y > limit) ? INT32_MAX : ((y < -limit - 1) ? INT32_MIN : (int32_t)((uint32_t)y << 1));
}

static void row(const int32_t *table, const int8_t *in, int8_t *out, int32_t c)
{
    int32_t top = INT8_MIN;
    for (int32_t i = 0; i < c; i++) {
        top = (in[i] > top) ? in[i] : top;
    }
    int32_t sum = 0;
    for (int32_t i = 0; i < c; i++) {
        sum += dhn_divide_by_pot(table[top - in[i]], SUM_INTEGER_BITS);
    }
    int32_t const headroom = leading_zeros((uint32_t)sum);
    int32_t const scale = one_over_one_plus((int32_t)(((uint32_t)sum << headroom) - 0x80000000u));
    int32_t const shift = SUM_INTEGER_BITS - headroom + 31 - 8;
    for (int32_t i = 0; i < c; i++) {
        /* Among hundreds of like values each is less than half a step: from 32 places on nothing is left to round. */
        int32_t const product = dhn_doubling_high(scale, table[top - in[i]]);
        int32_t const y = (shift < 32) ? dhn_divide_by_pot(product, shift) : 0;
        out[i] = dhn_clamp(y - 128, INT8_MIN, INT8_MAX);
    }
}

void dhn_softmax_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_softmax_t *const p = params;
    const int32_t *const table = (const void *)(io->consts + p->table);
    for (int32_t r = 0; r < p->rows; r++) {
        row(table, io->in0 + r * p->c, io->out + r * p->c, p->c);
    }
}
