/* The inner products of a group of pixels with every output channel, in assembly that leaves no register unused. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_TILE_H
#define DHN_ARMV7EM_TILE_H

#include "dsp.h"

/* The int16 buffer of a pixel group holds a word of two depths of pixel 0, the same depths of pixel 1 and so on, then the
 * next two depths. Depths come in quads (0, 2), (1, 3), the order in which SXTB16 unpacks four bytes. A step of a tile
 * takes one quad. Loops are unrolled by DHN_TILE_UNROLL steps and entered inside when the quads are no multiple of it. */
enum { DHN_TILE_UNROLL = 4, DHN_S8_PIXELS = 3, DHN_S16_PIXELS = 2 };

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
    int32_t out_c, out_zp;
    uint32_t skip; /* steps left out of the first round */
} dhn_group_t;

static inline void dhn_store_pair(int8_t *out, int32_t a, int32_t b)
{
    dhn_store16(out, (uint32_t)((a & 0xFF) | (int32_t)((uint32_t)b << 8)));
}

/* Where a pixel's output lies when `count` are left. What lies behind the last one is stored where pixel 0 follows. */
static inline int32_t dhn_pixel_offset(const dhn_group_t *g, int32_t pixel, int32_t count)
{
    return (pixel < count) ? pixel * g->out_c : 0;
}

/* Three pixels by two channels, int8 weights: 17 instructions for 24 products.
 *
 * A halfword of weights is A + 256 * B for the channels A and B: SMLAD with it adds SA + 256 * SB to `both`, SMLAD with
 * its low byte, sign-extended, adds SA to `low`. Both start at A's bias, and (both - low) / 256 is SB as long as
 * |SB| < 2^23, which the host proves from the weights. One extraction for two products' weights is what this saves. */

#if defined(__ARM_FEATURE_DSP)

#define DHN_S8_STEP                                                                                                    \
    "ldrd    r0, lr, [r10], #8\n\t"                                                                                    \
    "ldmia.w r11!, {r1, r2, r3}\n\t"                                                                                   \
    "smlad   r7, r0, r1, r7\n\t"                                                                                       \
    "smlad   r8, r0, r2, r8\n\t"                                                                                       \
    "smlad   r9, r0, r3, r9\n\t"                                                                                       \
    "sxtb16  r0, r0\n\t"                                                                                               \
    "smlad   r4, r0, r1, r4\n\t"                                                                                       \
    "smlad   r5, r0, r2, r5\n\t"                                                                                       \
    "smlad   r6, r0, r3, r6\n\t"                                                                                       \
    "ldmia.w r11!, {r1, r2, r3}\n\t"                                                                                   \
    "smlad   r7, lr, r1, r7\n\t"                                                                                       \
    "smlad   r8, lr, r2, r8\n\t"                                                                                       \
    "smlad   r9, lr, r3, r9\n\t"                                                                                       \
    "sxtb16  lr, lr\n\t"                                                                                               \
    "smlad   r4, lr, r1, r4\n\t"                                                                                       \
    "smlad   r5, lr, r2, r5\n\t"                                                                                       \
    "smlad   r6, lr, r3, r6\n\t"

/* `first` and `last` registers of three sums: requantised with scale r2, round r3, output zero point lr. */
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

/* Sums of channel A in r4-r6, of both in r7-r9; r10 weights, r11 buffer, r12 its end. On the stack, from sp: pair, out,
 * offsets of pixels 1 and 2, output zero point, entry, buffer, end of pairs. ADD PC jumps four bytes and r0 ahead. */
static __attribute__((noinline)) void dhn_group_s8(const dhn_group_t *g, int8_t *output, int32_t count)
{
    register const dhn_pair_t *pair __asm__("r0") = g->pair;
    register int8_t *out __asm__("r1") = output;
    register int32_t to1 __asm__("r2") = dhn_pixel_offset(g, 1, count);
    register int32_t to2 __asm__("r3") = dhn_pixel_offset(g, 2, count);
    register int32_t zero __asm__("r4") = g->out_zp;
    register uint32_t entry __asm__("r5") = g->skip * (17u * 4u);
    register const int16_t *x __asm__("r6") = g->x;
    register const dhn_pair_t *pair_end __asm__("r7") = g->pair_end;
    register const int8_t *w __asm__("r10") = g->weight;
    register const int16_t *x_end __asm__("r12") = g->x_end;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0-r7}\n\t"
        "mov     r1, r0\n"
        "1:\n\t"
        "ldr     r4, [r1]\n\t"
        "ldrd    r0, r11, [sp, #20]\n\t"
        "mov     r5, r4\n\t"
        "mov     r6, r4\n\t"
        "mov     r7, r4\n\t"
        "mov     r8, r4\n\t"
        "mov     r9, r4\n\t"
        "add     pc, r0\n\t"
        "nop\n"
        "2:\n\t"
        DHN_S8_STEP
        DHN_S8_STEP
        DHN_S8_STEP
        DHN_S8_STEP
        "cmp     r11, r12\n\t"
        "bne     2b\n\t"
        "ldrd    r1, r11, [sp]\n\t"
        "ldr     lr, [sp, #16]\n\t"
        "ldr     r0, [r1, #4]\n\t"
        "ldrd    r2, r3, [r1, #8]\n\t"
        "sub     r7, r7, r4\n\t"
        "sub     r8, r8, r5\n\t"
        "sub     r9, r9, r6\n\t"
        "add     r7, r0, r7, asr #8\n\t"
        "add     r8, r0, r8, asr #8\n\t"
        "add     r9, r0, r9, asr #8\n\t"
        DHN_REQUANTIZE3("r4", "r5", "r6")
        "ldrd    r2, r3, [r1, #16]\n\t"
        DHN_REQUANTIZE3("r7", "r8", "r9")
        "ldrd    r2, r3, [sp, #8]\n\t"
        "bfi     r4, r7, #8, #8\n\t"
        "bfi     r5, r8, #8, #8\n\t"
        "bfi     r6, r9, #8, #8\n\t"
        "strh    r6, [r11, r3]\n\t"
        "strh    r5, [r11, r2]\n\t"
        "strh    r4, [r11], #2\n\t"
        "adds    r1, #24\n\t"
        "ldr     r0, [sp, #28]\n\t"
        "strd    r1, r11, [sp]\n\t"
        "cmp     r1, r0\n\t"
        "bne     1b\n\t"
        "add     sp, #32"
        : "+r"(pair), "+r"(out), "+r"(to1), "+r"(to2), "+r"(zero), "+r"(entry), "+r"(x), "+r"(pair_end), "+r"(w),
          "+r"(x_end)
        :
        : "r8", "r9", "r11", "lr", "cc", "memory");
    /* clang-format on */
}

#else

static inline void dhn_group_s8(const dhn_group_t *g, int8_t *out, int32_t count)
{
    const int8_t *w = g->weight;
    for (const dhn_pair_t *pair = g->pair; pair != g->pair_end; pair++, out += 2) {
        int32_t low[DHN_S8_PIXELS], both[DHN_S8_PIXELS];
        for (int i = 0; i < DHN_S8_PIXELS; i++) {
            low[i] = both[i] = pair->bias[0];
        }
        for (const int16_t *x = g->x; x != g->x_end; x += 2 * DHN_S8_PIXELS, w += 4) {
            uint32_t const raw = dhn_load32(w);
            for (int i = 0; i < DHN_S8_PIXELS; i++) {
                both[i] = dhn_smlad(raw, dhn_load32(x + 2 * i), both[i]);
                low[i] = dhn_smlad(dhn_sxtb16(raw), dhn_load32(x + 2 * i), low[i]);
            }
        }
        for (int i = DHN_S8_PIXELS - 1; i >= 0; i--) {
            int32_t const b = pair->bias[1] + ((int32_t)((uint32_t)both[i] - (uint32_t)low[i]) >> 8);
            dhn_store_pair(out + dhn_pixel_offset(g, i, count),
                           dhn_requantize_fused(low[i], pair->scale_a, pair->round_a, g->out_zp),
                           dhn_requantize_fused(b, pair->scale_b, pair->round_b, g->out_zp));
        }
    }
}

#endif

#endif
