/* Elementwise addition, subtraction and multiplication with broadcasting: the specification of DHN_OP_ADD and DHN_OP_MUL. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

typedef int32_t combine_fn(const dhn_binary_t *p, int32_t a, int32_t b);

static int32_t sum(const dhn_binary_t *p, int32_t a, int32_t b)
{
    /* |value - zp| <= 255 and left_shift <= 20: 28 bits. */
    int32_t const left = dhn_requantize((int32_t)((uint32_t)(a - p->a_zp) << p->left_shift), p->a_mult, p->a_shift);
    int32_t const right = dhn_requantize((int32_t)((uint32_t)(b - p->b_zp) << p->left_shift), p->b_mult, p->b_shift);
    return p->negate_b ? left - right : left + right;
}

static int32_t product(const dhn_binary_t *p, int32_t a, int32_t b)
{
    return (a - p->a_zp) * (b - p->b_zp);
}

static inline void each(const dhn_binary_t *p, const dhn_io_t *io, combine_fn *combine)
{
    int8_t *out = io->out;
    for (uint32_t y = 0; y < p->shape[0]; y++) {
        for (uint32_t x = 0; x < p->shape[1]; x++) {
            const int8_t *a = io->in0 + y * p->a_stride[0] + x * p->a_stride[1];
            const int8_t *b = io->in1 + y * p->b_stride[0] + x * p->b_stride[1];
            for (uint32_t c = 0; c < p->shape[2]; c++, a += p->a_stride[2], b += p->b_stride[2]) {
                int32_t const raw = dhn_requantize(combine(p, *a, *b), p->out_mult, p->out_shift);
                *out++ = dhn_clamp(raw + p->out_zp, p->act_min, p->act_max);
            }
        }
    }
}

void dhn_add_s8__ref(const void *params, const dhn_io_t *io)
{
    each(params, io, sum);
}

void dhn_mul_s8__ref(const void *params, const dhn_io_t *io)
{
    each(params, io, product);
}
