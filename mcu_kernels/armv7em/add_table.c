/* Addition of equal shapes with one operand by table: 6.3 or 9.3 instructions per output. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dsp.h"

typedef struct {
    const int8_t *x;
    const uint8_t *y;
    const int32_t *table;
} operands_t;

static inline operands_t operands(const dhn_add_table_t *p, const dhn_io_t *io)
{
    operands_t o;
    o.x = p->swap ? io->in1 : io->in0;
    o.y = (const uint8_t *)(p->swap ? io->in0 : io->in1);
    o.table = (const void *)(io->consts + p->table);
    return o;
}

static inline int32_t sum(const operands_t *o, int32_t i, int32_t factor)
{
    return (int32_t)((uint32_t)o->table[o->y[i]] + (uint32_t)o->x[i] * (uint32_t)factor);
}

/* The table's bits below the 22nd hold what separates the results: layouts/add.py. */
dhn_kernel_fn dhn_add_shifted_s8__armv7em;
void dhn_add_shifted_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_add_table_t *const p = params;
    operands_t o = operands(p, io);
    int32_t const factor = p->factor;
    int8_t *out = io->out;
    int32_t n = (int32_t)p->count;

    for (; n >= 8; n -= 8, o.x += 8, o.y += 8, out += 8) {
#pragma GCC unroll 8
        for (int32_t i = 0; i < 8; i++) {
            out[i] = (int8_t)dhn_ssat8_asr22(sum(&o, i, factor));
        }
    }
    for (int32_t i = 0; i < n; i++) {
        out[i] = (int8_t)dhn_ssat8_asr22(sum(&o, i, factor));
    }
}

/* t - 1 for negative t makes the last rounding, halves up, one of halves away from zero. */
static inline int8_t requantized(const dhn_add_table_t *p, int32_t acc)
{
    int32_t t = dhn_smmlar((uint32_t)acc, (uint32_t)p->scale, acc);
    t -= (t < 0) ? 1 : 0;
    return (int8_t)dhn_ssat8(dhn_smmlar((uint32_t)t, (uint32_t)p->round, p->out_zp));
}

dhn_kernel_fn dhn_add_exact_s8__armv7em;
void dhn_add_exact_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_add_table_t p = *(const dhn_add_table_t *)params; /* a copy: what `out` points to cannot change it */
    operands_t o = operands(&p, io);
    int8_t *out = io->out;
    int32_t n = (int32_t)p.count;

    for (; n >= 4; n -= 4, o.x += 4, o.y += 4, out += 4) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < 4; i++) {
            out[i] = requantized(&p, sum(&o, i, p.factor));
        }
    }
    for (int32_t i = 0; i < n; i++) {
        out[i] = requantized(&p, sum(&o, i, p.factor));
    }
}
