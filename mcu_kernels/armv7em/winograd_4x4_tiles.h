/* The inner loops of exact integer Winograd F(4x4, 3x3): what they compute, for the host twin in C. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_WINOGRAD_4X4_TILES_H
#define DHN_ARMV7EM_WINOGRAD_4X4_TILES_H

#include "dsp.h"

/* Naked functions take their arguments from registers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* In one dimension, six values d of the input and three weights g give four outputs y of the correlation by
 *
 *   V = B d                    U = G g                     24 y = A (U V), written with the factors of its rows apart:
 *   4 d0 - 5 d2 + d4           3 g0                        y0 = 1 * (2 m0 - 4 m1 - 4 m2 + m3 + m4)
 *   d4 - 4 d2 + (d3 - 4 d1)    g0 + g1 + g2                y1 = 2 * (-2 m1 + 2 m2 + m3 - m4)
 *   d4 - 4 d2 - (d3 - 4 d1)    g0 - g1 + g2                y2 = 4 * (-m1 - m2 + m3 + m4)
 *   d4 - d2 + 2 (d3 - d1)      g0 + 2 g1 + 4 g2            y3 = 4 * (-m1 + m2 + 2 m3 - 2 m4 + 2 m5)
 *   d4 - d2 - 2 (d3 - d1)      g0 - 2 g1 + 4 g2
 *   4 d1 - 5 d3 + d5           3 g2
 *
 * all integers; in two dimensions the same along rows and along columns, and 576 y. |U| <= 49 * 128. Sums over channels
 * wrap modulo 2^32, which does no harm: 576 y fits. */

/* A slot per frequency, columns first: for each pair of channels a word of four tiles each (and, where weights are
 * transformed during the call, a word of two output channels each), then the sums [2 output channels][4 tiles]. */
#define DHN_WINO_FREQUENCIES 36
#define DHN_WINO_SUM_BYTES 32
/* A window is two tiles side by side: ten columns; its column transforms are [2 pairs][6 frequencies][10 columns]. */
#define DHN_WINO_COLUMNS 10
/* Words hold two channels as H * 65536 + L, integers modulo 2^32, so that sums take shifted operands. A negative L would
 * take one from the upper lane: this constant, added to pixels (4,4), (4,5), (5,4), (5,5) of every tile's lower lane, adds
 * just itself to every frequency. Pixels are x + 128 in 0..255: every |V| is below 50 * 255 = 12,750, but frequency (1, 1)
 * in -32 * 255..68 * 255, so L is in 0..30,090 and H in -12,750..17,340. The host's table takes its effect back. */
#define DHN_WINO_LIFT 12750u
#define DHN_WINO_K 14913081 /* 2^33 / 576, rounded */

/* Per output channel (host: layouts/winograd.py). Outputs (2,2), (3,2), (2,3), (3,3) see the lifted pixels. */
typedef struct {
    int32_t bias;      /* 36 * folded bias: what frequency (1, 1) needs */
    int32_t unlift[4]; /* at 36 times the output, which is what these four outputs' sums are */
    int32_t mult;
    int32_t round; /* 2^(32 - e) + 1 */
} dhn_wino_channel_t;

/* Bytes between slots (once, three and five times), between pairs of a slot, between the output's rows and pixels. */
typedef struct {
    uint32_t step, step3, step5, pair_bytes;
    uint32_t row_bytes, pixel_bytes;
    int32_t out_zp;
} dhn_wino_place_t;

/* Where columns are: bytes from a pixel to the one below and to the next column's. */
typedef struct {
    const int8_t *p;
    int32_t below, next;
} dhn_wino_columns_t;

#if defined(__ARM_FEATURE_DSP)
#include "winograd_4x4_thumb.h"
#else

static inline void dhn_wino_transform(uint32_t d[6])
{
    uint32_t const a = d[4] - 4u * d[2], b = d[3] - 4u * d[1];
    uint32_t const c = d[4] - d[2], e = d[3] - d[1];
    d[0] = c + 4u * (d[0] - d[2]);
    d[5] = (d[5] - d[3]) - 4u * e;
    d[1] = a + b;
    d[2] = a - b;
    d[3] = c + 2u * e;
    d[4] = c - 2u * e;
}

/* `count` columns of four channels to the column transforms of two pairs, `to` being those of the first column. */
static void dhn_wino_columns(const dhn_wino_columns_t *from, uint32_t *to, int32_t count)
{
    for (int32_t n = 0; n < count * 2; n++) {
        int32_t const column = n >> 1, pair = n & 1;
        uint32_t d[6];
        for (int32_t i = 0; i < 6; i++) {
            uint32_t const bytes = dhn_load32(from->p + column * from->next + i * from->below) ^ 0x80808080u;
            d[i] = pair ? dhn_uxtb16_ror8(bytes) : dhn_uxtb16(bytes);
        }
        dhn_wino_transform(d);
        for (int32_t i = 0; i < 6; i++) {
            to[(pair * 6 + i) * DHN_WINO_COLUMNS + column] = d[i];
        }
    }
}

/* Column transforms of a window to the words of its two tiles and two pairs in 36 slots. */
static void dhn_wino_rows(const uint32_t *from, uint8_t *slot, const dhn_wino_place_t *at)
{
    for (uint32_t n = 0; n < 24; n++) {
        uint32_t const row = n >> 2, pair = (n >> 1) & 1u, tile = n & 1u;
        uint32_t d[6];
        memcpy(d, from + (pair * 6u + row) * DHN_WINO_COLUMNS + tile * 4u, sizeof d);
        d[4] += DHN_WINO_LIFT;
        d[5] += DHN_WINO_LIFT;
        dhn_wino_transform(d);
        for (uint32_t j = 0; j < 6; j++) {
            dhn_store32(slot + (row * 6u + j) * at->step + pair * at->pair_bytes + tile * 4u, d[j]);
        }
    }
}

/* int8 weights of one output channel, [groups of four input channels][9][4], to its words in 36 slots. */
static void dhn_wino_weights(const int8_t *w, uint8_t *slot, const dhn_wino_place_t *at, uint32_t groups)
{
    static const int8_t g[6][3] = {{3, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 3}};
    for (uint32_t n = 0; n < groups * 2u * DHN_WINO_FREQUENCIES; n++) {
        uint32_t const pair = n / DHN_WINO_FREQUENCIES, f = n % DHN_WINO_FREQUENCIES;
        int32_t lane[2] = {0, 0};
        for (uint32_t tap = 0; tap < 9; tap++) {
            const int8_t *const byte = w + (pair >> 1) * 36u + tap * 4u + (pair & 1u);
            int32_t const factor = g[f / 6u][tap / 3u] * g[f % 6u][tap % 3u];
            lane[0] += factor * byte[0];
            lane[1] += factor * byte[2];
        }
        dhn_store32(slot + f * at->step + pair * at->pair_bytes, dhn_lanes(lane[0], lane[1]));
    }
}

static inline void dhn_wino_pair(const uint8_t *v, const uint8_t *u, int32_t sums[8])
{
    for (uint32_t i = 0; i < 8; i++) {
        sums[i] = dhn_smlad(dhn_load32(v + (i & 3u) * 4u), dhn_load32(u + (i >> 2) * 4u), sums[i]);
    }
}

/* v: slots up to `end`; u: [36][pairs][2 output channels] words. The sums of each slot, over 2 <= pairs <= 32. */
static void dhn_wino_sums(uint8_t *v, const uint8_t *u, uint32_t pairs, uint8_t *end)
{
    for (; v != end; v += DHN_WINO_SUM_BYTES) {
        int32_t sums[8] = {0};
        for (uint32_t i = 0; i < pairs; i++, v += 16, u += 8) {
            dhn_wino_pair(v, u, sums);
        }
        memcpy(v, sums, sizeof sums);
    }
}

/* The same with the weights' words in the slots. */
static void dhn_wino_sums_inside(uint8_t *v, uint32_t pairs, uint8_t *end)
{
    for (; v != end; v += DHN_WINO_SUM_BYTES) {
        int32_t sums[8] = {0};
        for (uint32_t i = 0; i < pairs; i++, v += 24) {
            dhn_wino_pair(v, v + 16, sums);
        }
        memcpy(v, sums, sizeof sums);
    }
}

/* The transform back along one dimension; the results carry the factors 1, 2, 4, 4. */
static inline void dhn_wino_back(const uint32_t m[6], uint32_t y[4])
{
    uint32_t const s = m[1] + m[2], d = m[1] - m[2], p = m[3] + m[4], q = m[3] - m[4];
    y[0] = p + 2u * (m[0] - 2u * s);
    y[1] = q - 2u * d;
    y[2] = p - s;
    y[3] = 2u * (q + m[5]) - d;
}

/* One tile's 16 outputs of one channel. 2 acc is exact because |576 acc| < 2^31: K is off by 0.112, times 2^31 / 2^32. */
static void dhn_wino_outputs(const uint8_t *sums, int8_t *out, const dhn_wino_channel_t *c, const dhn_wino_place_t *at)
{
    uint32_t middle[4][6], m[6], y[4];
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t j = 0; j < 6; j++) {
            m[j] = dhn_load32(sums + (i * 6u + j) * at->step);
        }
        m[1] += (i == 1) ? (uint32_t)c->bias : 0;
        dhn_wino_back(m, y);
        for (uint32_t x = 0; x < 4; x++) {
            middle[x][i] = y[x];
        }
    }
    for (uint32_t x = 0; x < 4; x++) {
        dhn_wino_back(middle[x], y);
        for (uint32_t r = 0; r < 4; r++) {
            y[r] += (x >= 2 && r >= 2) ? (uint32_t)c->unlift[2 * x + r - 6] : 0;
            uint32_t const factor = x - x / 3u + r - r / 3u; /* log2: 0, 1, 2, 2 along each dimension */
            int32_t const acc2 = dhn_smmulr(y[r], (uint32_t)DHN_WINO_K << factor);
            int32_t const t = dhn_smmulr((uint32_t)acc2, (uint32_t)c->mult);
            out[r * at->row_bytes + x * at->pixel_bytes] =
                (int8_t)dhn_ssat8(dhn_smmlar((uint32_t)t, (uint32_t)c->round, at->out_zp));
        }
    }
}
#endif

#pragma GCC diagnostic pop

#endif
