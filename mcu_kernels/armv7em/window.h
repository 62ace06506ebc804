/* Where pooling windows lie, cut off at the border, and sums over rows of pixels. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_WINDOW_H
#define DHN_ARMV7EM_WINDOW_H

#include "dhn_kernels.h"
#include "dsp.h"

/* A window of `rows` by `columns` pixels at `at`; `pixel` and `row` are the steps to the next ones. */
typedef struct {
    const int8_t *at;
    int32_t rows, columns;
    int32_t pixel, row;
} dhn_window_t;

static inline dhn_window_t dhn_window_at(const dhn_pool_t *p, const int8_t *in, int32_t y, int32_t x)
{
    int32_t const y0 = y * p->stride_h - p->pad_t;
    int32_t const x0 = x * p->stride_w - p->pad_l;
    int32_t const top = (y0 > 0) ? y0 : 0;
    int32_t const left = (x0 > 0) ? x0 : 0;
    int32_t const bottom = (y0 + p->kh < p->in_h) ? y0 + p->kh : p->in_h;
    int32_t const right = (x0 + p->kw < p->in_w) ? x0 + p->kw : p->in_w;
    dhn_window_t w;
    w.pixel = p->c;
    w.row = p->in_w * p->c;
    w.at = in + top * w.row + left * w.pixel;
    w.rows = bottom - top;
    w.columns = right - left;
    if (w.columns == p->in_w) { /* whole rows are one run of pixels */
        w.columns *= w.rows;
        w.rows = 1;
    }
    return w;
}

/* Int16 lanes hold the sums of this many int8. */
enum { DHN_LANE_ADDENDS = 255 };

/* Sums of channels 8k..8k + 7 over a window of at most DHN_LANE_ADDENDS pixels, from channel c on: two to a word, in the
 * order 0 2, 1 3, 4 6, 5 7. 9 instructions for 8 values. */
typedef struct {
    uint32_t w[4];
} dhn_lanes8_t;

static inline dhn_lanes8_t dhn_window_sum(const dhn_window_t *w, int32_t c)
{
    const int8_t *row = w->at + c;
    uint32_t s02 = 0, s13 = 0, s46 = 0, s57 = 0;
    for (int32_t y = w->rows; y > 0; y--, row += w->row) {
        const int8_t *v = row;
        for (int32_t x = w->columns; x > 0; x--, v += w->pixel) {
            uint32_t const a = dhn_load32(v), b = dhn_load32(v + 4);
            s02 = dhn_sxtab16(s02, a);
            s13 = dhn_sxtab16_ror8(s13, a);
            s46 = dhn_sxtab16(s46, b);
            s57 = dhn_sxtab16_ror8(s57, b);
        }
    }
    dhn_lanes8_t const sums = {{s02, s13, s46, s57}};
    return sums;
}

/* Channel i of the eight; i is a constant where it matters. */
static inline int32_t dhn_lane_of(const dhn_lanes8_t *s, int32_t i)
{
    uint32_t const word = s->w[(i & 4) / 2 + (i & 1)];
    return (i & 2) ? dhn_lane1(word) : dhn_lane0(word);
}

/* Of one channel, however large the window: 2^23 pixels fit. */
static inline int32_t dhn_window_sum_one(const dhn_window_t *w, int32_t c)
{
    const int8_t *row = w->at + c;
    int32_t sum = 0;
    for (int32_t y = w->rows; y > 0; y--, row += w->row) {
        const int8_t *v = row;
        for (int32_t x = w->columns; x > 0; x--, v += w->pixel) {
            sum += *v;
        }
    }
    return sum;
}

#endif
