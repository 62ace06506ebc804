/* Addition of equal shapes with one operand by table. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

typedef struct {
    const int8_t *x;
    const uint8_t *y;
    const int32_t *table;
    int32_t factor;
} operands_t;

static inline operands_t operands(const dhn_add_table_t *p, const dhn_io_t *io)
{
    operands_t o;
    o.x = p->swap ? io->in1 : io->in0;
    o.y = (const uint8_t *)(p->swap ? io->in0 : io->in1);
    o.table = (const void *)(io->consts + p->table);
    o.factor = p->factor;
    return o;
}

DHN_INNER int32_t sum(const operands_t *o, int32_t i)
{
    return (int32_t)((uint32_t)o->table[o->y[i]] + (uint32_t)o->x[i] * (uint32_t)o->factor);
}

/* The table's bits below the 22nd hold what separates the results: layouts/add.py. */
dhn_kernel_fn dhn_add_shifted_s8__portable;
void dhn_add_shifted_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_add_table_t *const p = params;
    operands_t o = operands(p, io);
    int8_t *out = io->out;
    int32_t n = (int32_t)p->count;

    for (; n >= 4; n -= 4, o.x += 4, o.y += 4, out += 4) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < 4; i++) {
            out[i] = dhn_saturate(sum(&o, i) >> 22);
        }
    }
    for (int32_t i = 0; i < n; i++) {
        out[i] = dhn_saturate(sum(&o, i) >> 22);
    }
}

/* |sum| < 2^29: two terms of 8 bits, 20 bits up, times at most a half (layouts/add.py; TFLite's ADD). `round` is
 * 2^(32 - shift), which the first kernels of this layout multiply by. */
dhn_kernel_fn dhn_add_exact_s8__portable;
void dhn_add_exact_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_add_table_t *const p = params;
    operands_t o = operands(p, io);
    int8_t *out = io->out;
    int32_t n = (int32_t)p->count;
    int32_t const shift = (__builtin_clz((uint32_t)p->round | 1u) + 1) & 31;
    int32_t const scale = p->scale, half = (int32_t)((1u << shift) >> 1), zero = p->out_zp;

    for (; n >= 4; n -= 4, o.x += 4, o.y += 4, out += 4) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < 4; i++) {
            out[i] = dhn_saturate(dhn_scale(sum(&o, i), scale, half, shift) + zero);
        }
    }
    for (int32_t i = 0; i < n; i++) {
        out[i] = dhn_saturate(dhn_scale(sum(&o, i), scale, half, shift) + zero);
    }
}
