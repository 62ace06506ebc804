/* Average and maximum pooling: the specification of DHN_OP_AVG_POOL and DHN_OP_MAX_POOL. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

/* A window, cut off at the border. */
typedef struct {
    int32_t top, bottom, left, right;
} box_t;

static box_t box_at(const dhn_pool_t *p, int32_t y, int32_t x)
{
    int32_t const y0 = y * p->stride_h - p->pad_t;
    int32_t const x0 = x * p->stride_w - p->pad_l;
    box_t b;
    b.top = (y0 > 0) ? y0 : 0;
    b.left = (x0 > 0) ? x0 : 0;
    b.bottom = (y0 + p->kh < p->in_h) ? y0 + p->kh : p->in_h;
    b.right = (x0 + p->kw < p->in_w) ? x0 + p->kw : p->in_w;
    return b;
}

static int32_t average(const dhn_pool_t *p, const int8_t *in, box_t b)
{
    int32_t acc = 0;
    for (int32_t y = b.top; y < b.bottom; y++) {
        const int8_t *v = in + (y * p->in_w + b.left) * p->c;
        for (int32_t x = b.left; x < b.right; x++, v += p->c) {
            acc += *v;
        }
    }
    int32_t const count = (b.bottom - b.top) * (b.right - b.left);
    return (acc > 0) ? (acc + count / 2) / count : (acc - count / 2) / count;
}

static int32_t maximum(const dhn_pool_t *p, const int8_t *in, box_t b)
{
    int32_t best = INT8_MIN;
    for (int32_t y = b.top; y < b.bottom; y++) {
        for (int32_t x = b.left; x < b.right; x++) {
            int32_t const v = in[(y * p->in_w + x) * p->c];
            best = (v > best) ? v : best;
        }
    }
    return best;
}

typedef int32_t reduce_fn(const dhn_pool_t *p, const int8_t *in, box_t b);

static inline void each(const dhn_pool_t *p, const dhn_io_t *io, reduce_fn *reduce)
{
    int8_t *out = io->out;
    for (int32_t y = 0; y < p->out_h; y++) {
        for (int32_t x = 0; x < p->out_w; x++) {
            box_t const b = box_at(p, y, x);
            for (int32_t c = 0; c < p->c; c++) {
                *out++ = dhn_clamp(reduce(p, io->in0 + c, b), p->act_min, p->act_max);
            }
        }
    }
}

void dhn_avg_pool_s8__ref(const void *params, const dhn_io_t *io)
{
    each(params, io, average);
}

void dhn_max_pool_s8__ref(const void *params, const dhn_io_t *io)
{
    each(params, io, maximum);
}
