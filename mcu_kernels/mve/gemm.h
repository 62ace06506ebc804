/* Output channels of one or two pixels: sums of products, then requantisation of sixteen or four at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_MVE_GEMM_H
#define DHN_MVE_GEMM_H

#include "mve.h"

/* The host's layout "mve" (host/dhn_kit/layouts/mve.py):
 * - weights: per tile of channels (four for two pixels, eight for one) first the eight accumulators' start (bias,
 *   with the input's zero point folded in), then 16 weights of each channel for every block of 16 inputs, zeros
 *   behind the last;
 * - table: per four channels their multipliers and what the rounding needs, 8 or 12 int32. Of every whole group of
 *   16 channels, quad q holds channels {0, 2, 1, 3}[q] + {0, 4, 8, 12}: narrowing interleaves even and odd lanes,
 *   and so brings them back into order. The channels behind the last whole group keep their order. */

typedef int32x4_t dhn_mve_round_fn(int32x4_t acc, const int32_t *row);

typedef struct {
    const int8_t *weights;
    const int32_t *table;
    int32_t *acc;          /* of dhn_mve_waiting(tiles) tiles */
    int32_t blocks, tiles; /* of 16 inputs, of eight accumulators */
    int32_t out_c;
    int32_t zp, low, high;
} dhn_mve_gemm_t;

/* Right shifts e of 1 to 11: multiplier, then 2^(31-e) + 1. The +1 takes halves away from zero and changes nothing else
 * while |t| < 2^(31-e), t being the first product; beyond, |t| / 2^e >= 512 saturates either way. The layout also
 * admits channels whose |t| is proven to stay below 2^(31-e). */
enum { DHN_MVE_FUSED_ROW = 8, DHN_MVE_ANY_ROW = 12 };
/* Narrow layers multiply several pairs of pixels before they requantise: up to four, while their sums take no more
 * than 32 tiles' room. As in kernels.toml: scratch of max(tiles, min(4 * tiles, 32)) * 32 bytes. */
static inline int32_t dhn_mve_pairs(int32_t tiles)
{
    return (tiles <= 8) ? 4 : ((tiles <= 16) ? 32 / tiles : 1);
}

static inline int32_t dhn_mve_waiting(int32_t tiles)
{
    int32_t const four = (tiles < 8) ? 4 * tiles : 32;
    return (tiles > four) ? tiles : four;
}

DHN_MVE_INLINE int32x4_t dhn_mve_fused(int32x4_t acc, const int32_t *row)
{
    return vqrdmulhq_s32(vqrdmulhq_s32(acc, vldrwq_s32(row)), vldrwq_s32(row + 4));
}

/* Any shift: multiplier, left shift >= 0, right shift as a number <= 0. VRSHL rounds halves up; one less takes those of
 * negative numbers away from zero, and the AND leaves a shift by nothing alone. */
DHN_MVE_INLINE int32x4_t dhn_mve_any(int32x4_t acc, const int32_t *row)
{
    int32x4_t const right = vldrwq_s32(row + 8);
    int32x4_t const t = vqrdmulhq_s32(vshlq_s32(acc, vldrwq_s32(row + 4)), vldrwq_s32(row));
    return vrshlq_s32(vaddq_s32(t, vshrq_n_s32(vandq_s32(t, right), 31)), right);
}

/* Sixteen channels from their quads' halves of int16: a and b, c and d. */
DHN_MVE_INLINE int8x16_t dhn_mve_narrow(const dhn_mve_gemm_t *g, int16x8_t ab, int16x8_t cd)
{
    ab = vqaddq_n_s16(ab, (int16_t)g->zp);
    cd = vqaddq_n_s16(cd, (int16_t)g->zp);
    int8x16_t const y = vqmovntq_s16(dhn_mve_narrow8(ab), cd);
    return vminq_s8(vmaxq_s8(y, vdupq_n_s8((int8_t)g->low)), vdupq_n_s8((int8_t)g->high));
}

/* Up to four channels. */
DHN_MVE_INLINE void dhn_mve_store4(const dhn_mve_gemm_t *g, int8_t *out, int32x4_t y, int32_t count)
{
    y = vaddq_n_s32(y, g->zp);
    y = vmaxq_s32(y, vdupq_n_s32(g->low));
    y = vminq_s32(y, vdupq_n_s32(g->high));
    vstrbq_p_s32(out, y, vctp32q((uint32_t)count));
}

/* Outputs of `pairs` pairs of pixels; the second of a pair lies `next` bytes behind the first: 0 if it is the same. */
DHN_MVE_INLINE void dhn_mve_finish_2(const dhn_mve_gemm_t *g, dhn_mve_round_fn *round, int32_t row, int32_t pairs,
                                     int8_t *out, int32_t next)
{
    int32_t const groups = g->out_c / 16;
    int32_t const rest = g->out_c % 16;
    const int32_t *acc = g->acc;
    for (int32_t pair = pairs; pair > 0; pair--, out += 2 * g->out_c) {
        const int32_t *table = g->table;
        int8_t *o = out;
        for (int32_t i = groups; i > 0; i--, acc += 32, table += 4 * row, o += 16) {
            int16x8_t ab0 = dhn_mve_narrow16(round(vldrwq_s32(acc), table));
            int16x8_t ab1 = dhn_mve_narrow16(round(vldrwq_s32(acc + 4), table));
            ab0 = vqmovntq_s32(ab0, round(vldrwq_s32(acc + 8), table + row));
            ab1 = vqmovntq_s32(ab1, round(vldrwq_s32(acc + 12), table + row));
            int16x8_t cd0 = dhn_mve_narrow16(round(vldrwq_s32(acc + 16), table + 2 * row));
            int16x8_t cd1 = dhn_mve_narrow16(round(vldrwq_s32(acc + 20), table + 2 * row));
            cd0 = vqmovntq_s32(cd0, round(vldrwq_s32(acc + 24), table + 3 * row));
            cd1 = vqmovntq_s32(cd1, round(vldrwq_s32(acc + 28), table + 3 * row));
            vstrbq_s8(o, dhn_mve_narrow(g, ab0, cd0));
            vstrbq_s8(o + next, dhn_mve_narrow(g, ab1, cd1));
        }
        for (int32_t n = rest; n > 0; n -= 4, acc += 8, table += row, o += 4) {
            int32x4_t const y0 = round(vldrwq_s32(acc), table);
            int32x4_t const y1 = round(vldrwq_s32(acc + 4), table);
            dhn_mve_store4(g, o, y0, n);
            dhn_mve_store4(g, o + next, y1, n);
        }
    }
}

/* One pixel's outputs. */
DHN_MVE_INLINE void dhn_mve_finish_1(const dhn_mve_gemm_t *g, dhn_mve_round_fn *round, int32_t row, int8_t *out)
{
    const int32_t *acc = g->acc;
    const int32_t *table = g->table;
    int32_t n = g->out_c;
    for (; n >= 16; n -= 16, acc += 16, table += 4 * row, out += 16) {
        int16x8_t ab = dhn_mve_narrow16(round(vldrwq_s32(acc), table));
        ab = vqmovntq_s32(ab, round(vldrwq_s32(acc + 4), table + row));
        int16x8_t cd = dhn_mve_narrow16(round(vldrwq_s32(acc + 8), table + 2 * row));
        cd = vqmovntq_s32(cd, round(vldrwq_s32(acc + 12), table + 3 * row));
        vstrbq_s8(out, dhn_mve_narrow(g, ab, cd));
    }
    for (; n > 0; n -= 4, acc += 4, table += row, out += 4) {
        dhn_mve_store4(g, out, round(vldrwq_s32(acc), table), n);
    }
}

/* Pixels at x, x + step, ... The last of an odd number is computed twice. */
DHN_MVE_INLINE void dhn_mve_pixels(const dhn_mve_gemm_t *g, dhn_mve_round_fn *round, int32_t row, const int8_t *x,
                                   int32_t step, int32_t count, int8_t *out)
{
    dhn_mve_dots_fn *const dots = dhn_mve_dots_2x4(g->blocks);
    int32_t const most = dhn_mve_pairs(g->tiles);
    dhn_mve_dots_t d = {.x0 = x, .w = g->weights, .acc = g->acc, .bytes = 16 * g->blocks, .tiles = g->tiles};
    d.step = 2 * step;
    while (count > 0) {
        int32_t const second = (count > 1) ? 1 : 0;
        int32_t const pairs = (count > 1) ? count / 2 : 1;
        d.pairs = (pairs < most) ? pairs : most;
        d.x1 = d.x0 + second * step;
        dots(&d);
        dhn_mve_finish_2(g, round, row, d.pairs, out, second * g->out_c);
        d.x0 += d.pairs * d.step;
        out += 2 * d.pairs * g->out_c;
        count -= 2 * d.pairs;
    }
}

#endif
