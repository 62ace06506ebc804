/* Convolution, any shape, stride, dilation and groups: the specification of DHN_OP_CONV. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

/* First and one-past-last kernel tap whose pixel lies inside the image: padding contributes (zp - zp) * w = 0. */
typedef struct {
    int32_t first, last, origin;
} taps_t;

static taps_t taps_inside(int32_t out, int32_t stride, int32_t pad, int32_t dilation, int32_t taps, int32_t size)
{
    taps_t t;
    t.origin = out * stride - pad;
    t.first = (t.origin < 0) ? (-t.origin + dilation - 1) / dilation : 0;
    int32_t const room = size - t.origin;
    int32_t const end = (room > 0) ? (room + dilation - 1) / dilation : 0;
    t.last = (end < taps) ? end : taps;
    return t;
}

/* Four at a time: 4.3 instead of 6 instructions per product on Cortex-M4. */
static inline int32_t dot(const int8_t *x, const int8_t *w, int32_t n, int32_t zp)
{
    int32_t acc = 0;
    for (; n >= 4; n -= 4, x += 4, w += 4) {
        acc += (x[0] - zp) * w[0] + (x[1] - zp) * w[1] + (x[2] - zp) * w[2] + (x[3] - zp) * w[3];
    }
    for (; n > 0; n--) {
        acc += (*x++ - zp) * *w++;
    }
    return acc;
}

static int32_t window(const dhn_conv_t *p, const int8_t *in, const int8_t *weight, taps_t v, taps_t h)
{
    int32_t const depth = p->in_c / p->groups;
    int32_t acc = 0;
    for (int32_t ky = v.first; ky < v.last; ky++) {
        const int8_t *const row = in + (v.origin + ky * p->dilation_h) * p->in_w * p->in_c;
        const int8_t *const wrow = weight + ky * p->kw * depth;
        if (p->dilation_w == 1u && p->groups == 1u) { /* the row's taps are one run of bytes */
            if (h.first < h.last) {
                acc += dot(row + (h.origin + h.first) * p->in_c, wrow + h.first * depth, (h.last - h.first) * depth,
                           p->in_zp);
            }
            continue;
        }
        for (int32_t kx = h.first; kx < h.last; kx++) {
            acc += dot(row + (h.origin + kx * p->dilation_w) * p->in_c, wrow + kx * depth, depth, p->in_zp);
        }
    }
    return acc;
}

void dhn_conv_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    const int8_t *const weight = (const int8_t *)(io->consts + p->weight);
    const int32_t *const bias = (const void *)(io->consts + p->bias);
    const int32_t *const mult = (const void *)(io->consts + p->mult);
    const int8_t *const shift = (const int8_t *)(io->consts + p->shift);
    int32_t const depth = p->in_c / p->groups;
    int32_t const per_group = p->out_c / p->groups;
    int32_t const filter = p->kh * p->kw * depth;
    int8_t *out = io->out;

    for (int32_t y = 0; y < p->out_h; y++) {
        taps_t const v = taps_inside(y, p->stride_h, p->pad_t, p->dilation_h, p->kh, p->in_h);
        for (int32_t x = 0; x < p->out_w; x++) {
            taps_t const h = taps_inside(x, p->stride_w, p->pad_l, p->dilation_w, p->kw, p->in_w);
            for (int32_t o = 0; o < p->out_c; o++) {
                const int8_t *const in = io->in0 + (o / per_group) * depth;
                int32_t const acc = bias[o] + window(p, in, weight + o * filter, v, h);
                *out++ = dhn_clamp(dhn_requantize(acc, mult[o], shift[o]) + p->out_zp, p->act_min, p->act_max);
            }
        }
    }
}
