/* Average pooling, maximum pooling and mean, four channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_requantize.h"
#include "portable/scalar.h"

/* A window's part of the image: first value, pixels each way, and the distance of its rows and pixels in bytes. */
typedef struct {
    const int8_t *from;
    int32_t rows, columns, pitch, pixel;
} part_t;

/* Sums or maxima of `channels` (1 or 4) channels from `at` on. */
DHN_INNER void reduce(part_t w, int32_t at, bool largest, int32_t channels, int32_t to[4])
{
    int32_t acc[4] = {to[0], to[0], to[0], to[0]};
    const int8_t *line = w.from + at;
    for (int32_t y = w.rows; y > 0; y--, line += w.pitch) {
        const int8_t *v = line;
        for (int32_t x = w.columns; x > 0; x--, v += w.pixel) {
#pragma GCC unroll 4
            for (int32_t i = 0; i < channels; i++) {
                int32_t const value = v[i];
                acc[i] = !largest ? acc[i] + value : ((value > acc[i]) ? value : acc[i]);
            }
        }
    }
    to[0] = acc[0];
    to[1] = acc[1];
    to[2] = acc[2];
    to[3] = acc[3];
}

typedef struct {
    int32_t low, high, count, half;
} average_t;

static inline int8_t averaged(const average_t *a, int32_t sum)
{
    return (int8_t)dhn_limit(((sum > 0) ? sum + a->half : sum - a->half) / a->count, a->low, a->high);
}

static part_t part_of(const dhn_pool_t *p, const int8_t *in, int32_t y, int32_t x)
{
    int32_t const top = y * p->stride_h - p->pad_t, left = x * p->stride_w - p->pad_l;
    int32_t const first = (top > 0) ? top : 0, start = (left > 0) ? left : 0;
    int32_t const bottom = (top + p->kh < p->in_h) ? top + p->kh : p->in_h;
    int32_t const right = (left + p->kw < p->in_w) ? left + p->kw : p->in_w;
    part_t const part = {in + (first * p->in_w + start) * p->c, bottom - first, right - start, p->in_w * p->c, p->c};
    return part;
}

DHN_INNER void pool(const dhn_pool_t *p, const dhn_io_t *io, bool largest)
{
    int8_t *out = io->out;
    for (int32_t y = 0; y < p->out_h; y++) {
        for (int32_t x = 0; x < p->out_w; x++) {
            part_t const w = part_of(p, io->in0, y, x);
            int32_t const count = w.rows * w.columns;
            average_t const a = {p->act_min, p->act_max, count, count / 2};
            for (int32_t c = 0; c < p->c;) {
                int32_t acc[4] = {largest ? INT8_MIN : 0, 0, 0, 0};
                int32_t const n = (c + 4 <= p->c) ? 4 : 1;
                if (n == 4) {
                    reduce(w, c, largest, 4, acc);
                } else {
                    reduce(w, c, largest, 1, acc);
                }
                for (int32_t i = 0; i < n; i++, c++) {
                    *out++ = largest ? (int8_t)dhn_limit(acc[i], a.low, a.high) : averaged(&a, acc[i]);
                }
            }
        }
    }
}

dhn_kernel_fn dhn_avg_pool_s8__portable;
void dhn_avg_pool_s8__portable(const void *params, const dhn_io_t *io)
{
    pool(params, io, false);
}

dhn_kernel_fn dhn_max_pool_s8__portable;
void dhn_max_pool_s8__portable(const void *params, const dhn_io_t *io)
{
    pool(params, io, true);
}

dhn_kernel_fn dhn_mean_s8__portable;
void dhn_mean_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_mean_t *const p = params;
    int8_t *out = io->out;
    part_t const all = {io->in0, 1, (int32_t)p->pixels, 0, p->c};
    int32_t const zero = (int32_t)p->pixels * p->in_zp; /* 2^23 pixels of 2^7 fit, and so does the difference */
    for (int32_t c = 0; c < p->c;) {
        int32_t acc[4] = {0, 0, 0, 0};
        int32_t const n = (c + 4 <= p->c) ? 4 : 1;
        if (n == 4) {
            reduce(all, c, false, 4, acc);
        } else {
            reduce(all, c, false, 1, acc);
        }
        for (int32_t i = 0; i < n; i++, c++) {
            int32_t const scaled = dhn_requantize(acc[i] - zero, p->mult, p->shift);
            *out++ = dhn_clamp(scaled + p->out_zp, INT8_MIN, INT8_MAX);
        }
    }
}
