/* Addition of equal shapes with one operand by table: four outputs in 8 or 12 instructions. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "mve.h"

typedef struct {
    const int8_t *x;
    const uint8_t *y;
    const int32_t *table;
    int32_t factor;
    int32_t mult, round, zp;
} operands_t;

typedef int32x4_t finish_fn(const operands_t *o, int32x4_t sum);

static inline operands_t operands(const dhn_add_table_t *p, const dhn_io_t *io)
{
    operands_t o;
    o.x = p->swap ? io->in1 : io->in0;
    o.y = (const uint8_t *)(p->swap ? io->in0 : io->in1);
    o.table = (const void *)(io->consts + p->table);
    o.factor = p->factor;
    o.mult = (int32_t)((uint32_t)p->scale >> 1); /* scale is 2 * mult modulo 2^32 */
    o.round = p->round >> 1;                     /* 2^(31 - e), for VQRDMULH doubles */
    o.zp = p->out_zp;
    return o;
}

/* Saturated to the low byte of each lane. */
DHN_MVE_INLINE int32x4_t bytes(int16x8_t h)
{
    return vreinterpretq_s32_s8(dhn_mve_narrow8(h));
}

/* The table's bits below the 22nd hold what separates the results. VQSHRN would save an instruction, but GNU as
 * 2.40 writes VQRSHRN for it. */
DHN_MVE_INLINE int32x4_t shifted(const operands_t *o, int32x4_t sum)
{
    (void)o;
    return bytes(dhn_mve_narrow16(vshrq_n_s32(sum, 22)));
}

/* t - 1 for negative t makes the last rounding, halves up, one of halves away from zero. */
DHN_MVE_INLINE int32x4_t exact(const operands_t *o, int32x4_t sum)
{
    int32x4_t t = vqrdmulhq_n_s32(sum, o->mult);
    t = vaddq_s32(t, vshrq_n_s32(t, 31));
    t = vaddq_n_s32(vqrdmulhq_n_s32(t, o->round), o->zp);
    return bytes(dhn_mve_narrow16(t));
}

DHN_MVE_INLINE int32x4_t sum(const operands_t *o, int32x4_t x, uint32x4_t y)
{
    return vmlaq_n_s32(vldrwq_gather_shifted_offset_s32(o->table, y), x, o->factor);
}

DHN_MVE_INLINE void add(const dhn_add_table_t *p, const dhn_io_t *io, finish_fn *finish)
{
    operands_t o = operands(p, io);
    int8_t *out = io->out;
    for (uint32_t n = p->count / 4u; n > 0u; n--, o.x += 4, o.y += 4, out += 4) {
        vstrbq_s32(out, finish(&o, sum(&o, vldrbq_s32(o.x), vldrbq_u32(o.y))));
    }
    mve_pred16_t const on = vctp32q(p->count % 4u);
    vstrbq_p_s32(out, finish(&o, sum(&o, vldrbq_z_s32(o.x, on), vldrbq_z_u32(o.y, on))), on);
}

dhn_kernel_fn dhn_add_shifted_s8__mve;
void dhn_add_shifted_s8__mve(const void *params, const dhn_io_t *io)
{
    add(params, io, shifted);
}

dhn_kernel_fn dhn_add_exact_s8__mve;
void dhn_add_exact_s8__mve(const void *params, const dhn_io_t *io)
{
    add(params, io, exact);
}
