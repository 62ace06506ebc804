/* Exact integer Winograd F(2x2, 3x3): its arithmetic, and its loops in Thumb-2 or, for the host twin, in C. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_WINOGRAD_2X2_TILES_H
#define DHN_ARMV7EM_WINOGRAD_2X2_TILES_H

#include "dsp.h"
#include "portable/winograd.h"

#define DHN_WINO2_SIDE 4
/* Column transforms of a window are [2 pairs][4 frequencies][6 columns]. */
#define DHN_WINO2_COLUMNS 6

/* In one dimension, four values d of the input and three weights g give two outputs y of the correlation by
 *
 *   V = B d     U = 2 G g         2 y = A (U V)
 *   d0 - d2     2 g0              y0: m0 + m1 + m2
 *   d1 + d2     g0 + g1 + g2      y1: m1 - m2 - m3
 *   d2 - d1     g0 - g1 + g2
 *   d1 - d3     2 g2
 *
 * all integers; in two dimensions the same along rows and along columns, and 4 y. |V| <= 4 * 128 and |U| <= 9 * 128 fit int16
 * lanes. Sums over channels wrap modulo 2^32, which does no harm while 4 y fits: the host proves |acc| < 2^29. */

/* Per output channel (host: layouts/winograd.py). */
typedef struct {
    int32_t bias; /* 4 * folded bias: what frequency (1, 1) needs */
    int32_t mult;
    int32_t round; /* 2^(32 - e) + 1 */
} dhn_wino2_channel_t;

#if defined(__ARM_FEATURE_DSP)
#include "winograd_2x2_thumb.h"
#else
#include "portable/winograd_loops.h"

#define DHN_WINO2_TRANSFORM(d0, d1, d2, d3)                                                                            \
    do {                                                                                                               \
        uint32_t const d1_ = d1;                                                                                       \
        d0 = dhn_ssub16(d0, d2);                                                                                       \
        d1 = dhn_sadd16(d1, d2);                                                                                       \
        d2 = dhn_ssub16(d2, d1_);                                                                                      \
        d3 = dhn_ssub16(d1_, d3);                                                                                      \
    } while (0)

/* `count` columns of four channels to the column transforms of two pairs, `to` being those of the first column. */
static void dhn_wino2_columns(const dhn_wino_columns_t *from, uint32_t *to, int32_t count)
{
    const int8_t *p = from->p;
    for (int32_t n = 0; n < 2 * count; n++, p += (n & 1) ? 0 : from->next) {
        uint32_t d[DHN_WINO2_SIDE];
        for (int32_t i = 0; i < DHN_WINO2_SIDE; i++) {
            uint32_t const word = dhn_load32(p + i * from->below);
            d[i] = (n & 1) ? dhn_sxtb16_ror8(word) : dhn_sxtb16(word);
        }
        DHN_WINO2_TRANSFORM(d[0], d[1], d[2], d[3]);
        for (int32_t i = 0; i < DHN_WINO2_SIDE; i++) {
            to[((n & 1) * DHN_WINO2_SIDE + i) * DHN_WINO2_COLUMNS + n / 2] = d[i];
        }
    }
}

/* Column transforms of a window to the words of its two tiles and two pairs in 16 slots. */
static void dhn_wino2_rows(const uint32_t *from, uint8_t *slot, const dhn_wino_place_t *at)
{
    for (uint32_t n = 0; n < 4; n++) {
        const uint32_t *d = from + (n >> 1) * DHN_WINO2_SIDE * DHN_WINO2_COLUMNS + (n & 1u) * 2;
        uint8_t *to = slot + (n >> 1) * at->pair_bytes + (n & 1u) * 4u;
        for (uint32_t i = 0; i < DHN_WINO2_SIDE; i++, d += DHN_WINO2_COLUMNS) {
            uint32_t v[DHN_WINO2_SIDE] = {d[0], d[1], d[2], d[3]};
            DHN_WINO2_TRANSFORM(v[0], v[1], v[2], v[3]);
            for (uint32_t j = 0; j < DHN_WINO2_SIDE; j++, to += at->step) {
                dhn_wino_set_word(to, v[j]);
            }
        }
    }
}

/* A window's eight outputs of one channel. 4 acc is a multiple of 4: its half is twice the accumulator. */
static void dhn_wino2_output(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at)
{
    const dhn_wino2_channel_t *const c = channel;
    for (uint32_t tile = 0; tile < 2; tile++, sums += 16, out += 2u * at->pixel_bytes) {
        uint32_t y[2][2] = {{0, 0}, {0, 0}};
        for (uint32_t i = 0; i < DHN_WINO2_SIDE; i++) {
            const uint8_t *const m = sums + i * DHN_WINO2_SIDE * at->step;
            uint32_t const m1 = dhn_wino_word(m + at->step) + ((i == 1) ? (uint32_t)c->bias : 0);
            uint32_t const m2 = dhn_wino_word(m + 2u * at->step);
            uint32_t const x[2] = {dhn_wino_word(m) + m1 + m2, m1 - m2 - dhn_wino_word(m + at->step3)};
            for (uint32_t k = 0; k < 2; k++) {
                y[0][k] += (i < 3) ? x[k] : 0;
                y[1][k] += (i == 1) ? x[k] : ((i > 1) ? 0u - x[k] : 0);
            }
        }
        for (uint32_t k = 0; k < 4; k++) {
            int32_t const t = dhn_smmulr((uint32_t)((int32_t)y[k / 2][k % 2] >> 1), (uint32_t)c->mult);
            out[k / 2 * at->row_bytes + k % 2 * at->pixel_bytes] =
                (int8_t)dhn_ssat8(dhn_smmlar((uint32_t)t, (uint32_t)c->round, at->out_zp));
        }
    }
}

static void dhn_wino2_outputs(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at)
{
    dhn_wino_outputs(dhn_wino2_output, sizeof(dhn_wino2_channel_t), sums, out, channel, at);
}
#endif

#endif
