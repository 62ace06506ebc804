/* What plain C kernels of Winograd F(4x4, 3x3) make of sums: requantised outputs. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_4X4_SCALAR_H
#define DHN_WINOGRAD_4X4_SCALAR_H

#include "scalar.h"
#include "winograd_4x4_loops.h"

/* Per output channel (host: layouts/winograd.py). Outputs (2,2), (3,2), (2,3), (3,3) see the lifted pixels. */
typedef struct {
    int32_t bias;                    /* 36 * folded bias: what frequency (1, 1) needs */
    int32_t unlift[4];               /* at 36 times the output, which is what these four outputs' sums are */
    int32_t multiplier, half, shift; /* as in dhn_row_t */
} dhn_wino4_channel_t;

/* sum * factor = 576 acc modulo 2^32, log2_factor = 0..4; 1 / 9 modulo 2^32 leaves 64 acc / factor, which fits for
 * |acc| < 2^25 (host's proof). */
DHN_INNER int8_t finish(uint32_t sum, int32_t log2_factor, dhn_wino4_channel_t c)
{
    int32_t const acc = (int32_t)(sum * 0x38E38E39u) >> (6 - log2_factor);
    return (int8_t)dhn_to_int8(dhn_scale(acc, c.multiplier, c.half, c.shift));
}

DHN_INNER void put_column(const uint32_t *m, int32_t log2_factor, int8_t *out, uint32_t row_bytes,
                          dhn_wino4_channel_t c, const int32_t *unlift)
{
    DHN_WINO_BACK(m[0], m[1], m[2], m[3], m[4], m[5], y0, y1, y2, y3);
    *out = finish(y0, log2_factor, c);
    *(out += row_bytes) = finish(y1, log2_factor + 1, c);
    *(out += row_bytes) = finish(y2 + (unlift ? (uint32_t)unlift[0] : 0), log2_factor + 2, c);
    *(out += row_bytes) = finish(y3 + (unlift ? (uint32_t)unlift[1] : 0), log2_factor + 2, c);
}

/* One tile's 16 outputs of one channel. */
static void dhn_wino4_output(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at)
{
    const dhn_wino4_channel_t *const c = channel;
    uint32_t middle[24];
    dhn_wino4_middle(sums, c->bias, at->step, middle);
    uint32_t const row = at->row_bytes, pixel = at->pixel_bytes;
    dhn_wino4_channel_t const own = *c; /* bytes are written in between */
    put_column(middle, 0, out, row, own, NULL);
    put_column(middle + 6, 1, out + pixel, row, own, NULL);
    put_column(middle + 12, 2, out + 2 * pixel, row, own, c->unlift);
    put_column(middle + 18, 2, out + 3 * pixel, row, own, c->unlift + 2);
}

static void dhn_wino4_outputs(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at)
{
    dhn_wino_outputs(dhn_wino4_output, sizeof(dhn_wino4_channel_t), sums, out, channel, at);
}

#endif
