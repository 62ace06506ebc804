/* The loops of Winograd F(4x4, 3x3) with the DSP instructions: in Thumb-2, and for the host twin in C. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_WINOGRAD_4X4_TILES_H
#define DHN_ARMV7EM_WINOGRAD_4X4_TILES_H

#include "dsp.h"
#include "portable/winograd_4x4.h"

/* Per output channel (host: layouts/winograd.py). Outputs (2,2), (3,2), (2,3), (3,3) see the lifted pixels. */
typedef struct {
    int32_t bias;      /* 36 * folded bias: what frequency (1, 1) needs */
    int32_t unlift[4]; /* at 36 times the output, which is what these four outputs' sums are */
    int32_t mult;
    int32_t round; /* 2^(32 - e) + 1 */
} dhn_wino4_channel_t;

#define DHN_WINO_K 14913081 /* 2^33 / 576, rounded */

#if defined(__ARM_FEATURE_DSP)
#include "winograd_4x4_thumb.h"
#else
#include "portable/winograd_4x4_loops.h"

/* One tile's 16 outputs of one channel. 2 acc is exact because |576 acc| < 2^31: K is off by 0.112, times 2^31 / 2^32. */
static void dhn_wino4_output(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at)
{
    const dhn_wino4_channel_t *const c = channel;
    uint32_t middle[24];
    dhn_wino4_middle(sums, c->bias, at->step, middle);
    for (uint32_t x = 0; x < 4; x++) {
        const uint32_t *const m = middle + 6 * x;
        DHN_WINO_BACK(m[0], m[1], m[2], m[3], m[4], m[5], y0, y1, y2, y3);
        y2 += (x >= 2) ? (uint32_t)c->unlift[2 * x - 4] : 0;
        y3 += (x >= 2) ? (uint32_t)c->unlift[2 * x - 3] : 0;
        uint32_t const y[4] = {y0, y1, y2, y3};
        for (uint32_t r = 0; r < 4; r++) {
            uint32_t const factor = x - x / 3u + r - r / 3u; /* log2: 0, 1, 2, 2 along each dimension */
            int32_t const acc2 = dhn_smmulr(y[r], (uint32_t)DHN_WINO_K << factor);
            int32_t const t = dhn_smmulr((uint32_t)acc2, (uint32_t)c->mult);
            out[r * at->row_bytes + x * at->pixel_bytes] =
                (int8_t)dhn_ssat8(dhn_smmlar((uint32_t)t, (uint32_t)c->round, at->out_zp));
        }
    }
}

static void dhn_wino4_outputs(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at)
{
    dhn_wino_outputs(dhn_wino4_output, sizeof(dhn_wino4_channel_t), sums, out, channel, at);
}
#endif

#endif
