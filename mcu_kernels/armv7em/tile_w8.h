/* Register tile with int8 weights: three pixels by two channels. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_TILE_W8_H
#define DHN_ARMV7EM_TILE_W8_H

#include "tile.h"

/* Three pixels by two channels, int8 weights: 17 instructions for 24 products.
 *
 * A halfword of weights is A + 256 * B for the channels A and B: SMLAD with it adds SA + 256 * SB to `both`, SMLAD with
 * its low byte, sign-extended, adds SA to `low`. Both start at A's bias, and (both - low) / 256 is SB as long as
 * |SB| < 2^23, which the host proves from the weights. One extraction for two products' weights is what this saves. */

#if defined(__ARM_FEATURE_DSP)

#define DHN_W8_STEP                                                                                                    \
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

/* All steps: a bias in r4, the entry in r0; the rest as below. */
/* clang-format off */
#define DHN_W8_SUMS \
    "mov     r5, r4\n\t" \
    "mov     r6, r4\n\t" \
    "mov     r7, r4\n\t" \
    "mov     r8, r4\n\t" \
    "mov     r9, r4\n\t" \
    "add     pc, r0\n\t" \
    "nop\n" \
    "2:\n\t" \
    DHN_W8_STEP \
    DHN_W8_STEP \
    DHN_W8_STEP \
    DHN_W8_STEP \
    "cmp     r11, r12\n\t" \
    "bne     2b\n\t"
/* clang-format on */

/* Sums of channel A in r4-r6, of both in r7-r9; r10 weights, r11 buffer, r12 its end. On the stack, from sp: end of pairs,
 * pair, out, output zero point, offsets of pixels 1 and 2, entry, buffer. */
DHN_CALLED void dhn_group_w8(const dhn_group_t *g, int8_t *output, int32_t count)
{
    register const dhn_pair_t *pair_end __asm__("r0") = g->pair_end;
    register const dhn_pair_t *pair __asm__("r1") = g->pair;
    register int8_t *out __asm__("r2") = output;
    register int32_t zero __asm__("r3") = g->out_zp;
    register int32_t to1 __asm__("r4") = dhn_pixel_offset(g, 1, count);
    register int32_t to2 __asm__("r5") = dhn_pixel_offset(g, 2, count);
    register uint32_t entry __asm__("r6") = dhn_tile_entry(g->steps, 4u, 17u * 4u);
    register const int16_t *x __asm__("r7") = g->x;
    register const int8_t *w __asm__("r10") = g->weight;
    register const int16_t *x_end __asm__("r12") = g->x_end;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0-r7}\n"
        "1:\n\t"
        "ldr     r4, [r1]\n\t"
        "ldrd    r0, r11, [sp, #24]\n\t"
        DHN_W8_SUMS
        "ldm.w   sp, {r0, r1, r11, lr}\n\t"
        "ldr     r2, [r1, #4]\n\t"
        "sub     r7, r7, r4\n\t"
        "sub     r8, r8, r5\n\t"
        "sub     r9, r9, r6\n\t"
        "add     r7, r2, r7, asr #8\n\t"
        "add     r8, r2, r8, asr #8\n\t"
        "add     r9, r2, r9, asr #8\n\t"
        DHN_FINISH3
        "add     sp, #32"
        : "+r"(pair_end), "+r"(pair), "+r"(out), "+r"(zero), "+r"(to1), "+r"(to2), "+r"(entry), "+r"(x), "+r"(w),
          "+r"(x_end)
        :
        : "r8", "r9", "r11", "lr", "cc", "memory");
    /* clang-format on */
}

/* One pair's sums, for kernels that requantise in C: channel A of pixels 0 to 2 with its bias, then both. Returns the
 * weights behind. */
DHN_CALLED const int8_t *dhn_sums_w8(const dhn_group_t *g, const int8_t *weight, int32_t bias, int32_t sums[6])
{
    register int32_t *to __asm__("r0") = sums;
    register int32_t start __asm__("r4") = bias;
    register uint32_t entry __asm__("r5") = dhn_tile_entry(g->steps, 4u, 17u * 4u);
    register const int8_t *w __asm__("r10") = weight;
    register const int16_t *x __asm__("r11") = g->x;
    register const int16_t *x_end __asm__("r12") = g->x_end;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0}\n\t"
        "mov     r0, r5\n\t"
        DHN_W8_SUMS
        "pop     {r0}\n\t"
        "stmia   r0, {r4-r9}"
        : "+r"(to), "+r"(start), "+r"(entry), "+r"(w), "+r"(x), "+r"(x_end)
        :
        : "r1", "r2", "r3", "r6", "r7", "r8", "r9", "lr", "cc", "memory");
    /* clang-format on */
    return w;
}

#else

static inline void dhn_group_w8(const dhn_group_t *g, int8_t *out, int32_t count)
{
    for (int i = 2; i >= 0; i--) {
        const int8_t *w = g->weight;
        int8_t *to = out + dhn_pixel_offset(g, i, count);
        for (const dhn_pair_t *pair = g->pair; pair != g->pair_end; pair++, to += 2) {
            int32_t low = pair->bias[0], both = pair->bias[0];
            for (const int16_t *x = g->x + 2 * i; x < g->x_end; x += 6, w += 4) {
                both = dhn_smlad(dhn_load32(w), dhn_load32(x), both);
                low = dhn_smlad(dhn_sxtb16(dhn_load32(w)), dhn_load32(x), low);
            }
            dhn_store_pixel(g, pair, to, low, pair->bias[1] + dhn_second_sum(both, low));
        }
    }
}

static inline const int8_t *dhn_sums_w8(const dhn_group_t *g, const int8_t *w, int32_t bias, int32_t sums[6])
{
    for (int i = 0; i < 6; i++) {
        sums[i] = bias;
    }
    for (const int16_t *x = g->x; x < g->x_end; x += 6, w += 4) {
        for (int i = 0; i < 3; i++) {
            sums[i] = dhn_smlad(dhn_sxtb16(dhn_load32(w)), dhn_load32(x + 2 * i), sums[i]);
            sums[3 + i] = dhn_smlad(dhn_load32(w), dhn_load32(x + 2 * i), sums[3 + i]);
        }
    }
    return w;
}

#endif

#endif
