/* What the register tiles of matrix products share: the pixel group, the epilogue of a pair of channels. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_TILE_H
#define DHN_ARMV7EM_TILE_H

#include "dsp.h"

/* The int16 buffer of a pixel group holds a word of two depths of pixel 0, the same depths of pixel 1 and so on, then the
 * next two depths. Depths come in quads (0, 2), (1, 3), the order in which SXTB16 unpacks four bytes. A step of a tile
 * takes one quad. Loops are unrolled and entered inside when the steps are no multiple of that. */

/* Two channels' requantisation: rows of dhn_fused_t in the order of use. */
typedef struct {
    int32_t bias[2];
    int32_t scale_a, round_a;
    int32_t scale_b, round_b;
} dhn_pair_t;

/* A pixel group: `x` to `x_end` in the buffer against weights and pairs of output channels. */
typedef struct {
    const int16_t *x, *x_end;
    const int8_t *weight;
    const dhn_pair_t *pair, *pair_end;
    int32_t out_c, out_zp, act_min, act_max;
    uint32_t steps;
} dhn_group_t;

/* The second channel's sum, without its bias. */
static inline int32_t dhn_second_sum(int32_t both, int32_t low)
{
    return (int32_t)((uint32_t)both - (uint32_t)low) >> 8;
}

static inline void dhn_store_pair(int8_t *out, int32_t a, int32_t b)
{
    dhn_store16(out, (uint32_t)((a & 0xFF) | (int32_t)((uint32_t)b << 8)));
}

/* Where a pixel's output lies when `count` are left. What lies behind the last one is stored where pixel 0 follows. */
static inline int32_t dhn_pixel_offset(const dhn_group_t *g, int32_t pixel, int32_t count)
{
    return (pixel < count) ? pixel * g->out_c : 0;
}

#if defined(__ARM_FEATURE_DSP)

/* Adding this to PC, four bytes ahead of the ADD, leaves out the steps that the first round lacks. */
static inline uint32_t dhn_tile_entry(uint32_t steps, uint32_t unroll, uint32_t step_bytes)
{
    return (0u - steps) % unroll * step_bytes;
}

/* Three sums to int8: scale r2, rounding r3, output zero point lr. */
#define DHN_REQUANTIZE3(a, b, c)                                                                                       \
    "smmlar  " a ", " a ", r2, " a "\n\t"                                                                              \
    "smmlar  " b ", " b ", r2, " b "\n\t"                                                                              \
    "smmlar  " c ", " c ", r2, " c "\n\t"                                                                              \
    "smmlar  " a ", " a ", r3, lr\n\t"                                                                                 \
    "smmlar  " b ", " b ", r3, lr\n\t"                                                                                 \
    "smmlar  " c ", " c ", r3, lr\n\t"                                                                                 \
    "ssat    " a ", #8, " a "\n\t"                                                                                     \
    "ssat    " b ", #8, " b "\n\t"                                                                                     \
    "ssat    " c ", #8, " c "\n\t"

/* Channel A's sums in r4-r6 and B's in r7-r9, end of pairs in r0, pair in r1, out in r11: stored, then back to label 1 for
 * the next pair. On the stack, from sp: end of pairs, pair, out, output zero point, offsets of pixels 1 and 2. */
/* clang-format off */
#define DHN_FINISH3 \
    "ldrd    r2, r3, [r1, #8]\n\t" \
    DHN_REQUANTIZE3("r4", "r5", "r6") \
    "ldrd    r2, r3, [r1, #16]\n\t" \
    DHN_REQUANTIZE3("r7", "r8", "r9") \
    "ldrd    r2, r3, [sp, #16]\n\t" \
    "bfi     r4, r7, #8, #8\n\t" \
    "bfi     r5, r8, #8, #8\n\t" \
    "bfi     r6, r9, #8, #8\n\t" \
    "strh    r6, [r11, r3]\n\t" \
    "strh    r5, [r11, r2]\n\t" \
    "strh    r4, [r11], #2\n\t" \
    "adds    r1, #24\n\t" \
    "strd    r1, r11, [sp, #4]\n\t" \
    "cmp     r1, r0\n\t" \
    "bne     1b\n\t"
/* clang-format on */

#else

static inline void dhn_store_pixel(const dhn_group_t *g, const dhn_pair_t *pair, int8_t *out, int32_t a, int32_t b)
{
    dhn_store_pair(out, dhn_requantize_fused(a, pair->scale_a, pair->round_a, g->out_zp),
                   dhn_requantize_fused(b, pair->scale_b, pair->round_b, g->out_zp));
}

#endif

#endif
