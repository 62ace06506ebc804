/* Average and maximum pooling: a vector of channels runs over each window. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "mve.h"

/* Overlap is not claimed: windows of different outputs share pixels. */

/* A window, cut off at the border. */
typedef struct {
    const int8_t *from;
    int32_t rows, columns;
} window_t;

static window_t window_at(const dhn_pool_t *p, const int8_t *in, int32_t y, int32_t x)
{
    int32_t const y0 = y * p->stride_h - p->pad_t;
    int32_t const x0 = x * p->stride_w - p->pad_l;
    int32_t const top = (y0 > 0) ? y0 : 0;
    int32_t const left = (x0 > 0) ? x0 : 0;
    window_t w;
    w.from = in + (top * p->in_w + left) * p->c;
    w.rows = ((y0 + p->kh < p->in_h) ? y0 + p->kh : p->in_h) - top;
    w.columns = ((x0 + p->kw < p->in_w) ? x0 + p->kw : p->in_w) - left;
    return w;
}

/* |n| / count with n's sign, rounded to nearest, halves away from zero: n / 2^31 * (2^31 / count rounded up) is
 * exact while |n| * count < 2^31, and |n| is below 129 * 255. */
DHN_MVE_INLINE int32x4_t divide(int32x4_t n, int32_t half, uint32_t reciprocal)
{
    int32x4_t const sign = vshrq_n_s32(n, 31);
    uint32x4_t const twice = vreinterpretq_u32_s32(vshlq_n_s32(vaddq_n_s32(vabsq_s32(n), half), 1));
    int32x4_t const q = vreinterpretq_s32_u32(vmulhq_u32(twice, vdupq_n_u32(reciprocal)));
    return vsubq_s32(veorq_s32(q, sign), sign);
}

/* Sums fit int16: at most 255 pixels of at most 128. */
static void average(const dhn_pool_t *p, window_t w, int8_t *out)
{
    int32_t const count = w.rows * w.columns;
    uint32_t const reciprocal = 0x80000000u / (uint32_t)count + 1u;
    for (int32_t c = 0; c < p->c; c += 8, w.from += 8, out += 8) {
        mve_pred16_t const on = vctp16q((uint32_t)(p->c - c));
        int16x8_t acc = vdupq_n_s16(0);
        const int8_t *row = w.from;
        for (int32_t y = w.rows; y > 0; y--, row += p->in_w * p->c) {
            const int8_t *v = row;
            for (int32_t x = w.columns; x > 0; x--, v += p->c) {
                acc = vaddq_s16(acc, vldrbq_z_s16(v, on));
            }
        }
        int32x4_t const even = divide(vmovlbq_s16(acc), count / 2, reciprocal);
        int32x4_t const odd = divide(vmovltq_s16(acc), count / 2, reciprocal);
        int16x8_t y = vqmovntq_s32(vqmovnbq_s32(acc, even), odd);
        y = vminq_s16(vmaxq_s16(y, vdupq_n_s16(p->act_min)), vdupq_n_s16(p->act_max));
        vstrbq_p_s16(out, y, on);
    }
}

static void maximum(const dhn_pool_t *p, window_t w, int8_t *out)
{
    for (int32_t c = 0; c < p->c; c += 16, w.from += 16, out += 16) {
        mve_pred16_t const on = vctp8q((uint32_t)(p->c - c));
        int8x16_t best = vdupq_n_s8((int8_t)p->act_min);
        const int8_t *row = w.from;
        for (int32_t y = w.rows; y > 0; y--, row += p->in_w * p->c) {
            const int8_t *v = row;
            for (int32_t x = w.columns; x > 0; x--, v += p->c) {
                best = vmaxq_s8(best, vldrbq_z_s8(v, on));
            }
        }
        vstrbq_p_s8(out, vminq_s8(best, vdupq_n_s8((int8_t)p->act_max)), on);
    }
}

typedef void reduce_fn(const dhn_pool_t *p, window_t w, int8_t *out);

DHN_MVE_INLINE void pool(const dhn_pool_t *p, const dhn_io_t *io, reduce_fn *reduce)
{
    int8_t *out = io->out;
    for (int32_t y = 0; y < p->out_h; y++) {
        for (int32_t x = 0; x < p->out_w; x++, out += p->c) {
            reduce(p, window_at(p, io->in0, y, x), out);
        }
    }
}

dhn_kernel_fn dhn_avg_pool_s8__mve;
void dhn_avg_pool_s8__mve(const void *params, const dhn_io_t *io)
{
    pool(params, io, average);
}

dhn_kernel_fn dhn_max_pool_s8__mve;
void dhn_max_pool_s8__mve(const void *params, const dhn_io_t *io)
{
    pool(params, io, maximum);
}
