/* Register tile with int16 weights: two pixels by two channels. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_TILE_W16_H
#define DHN_ARMV7EM_TILE_W16_H

#include "tile.h"

/* Two pixels by two channels, int16 weights: 10 instructions for 16 products. */

#if defined(__ARM_FEATURE_DSP)

#define DHN_W16_STEP                                                                                                   \
    "ldmia.w r12!, {r0-r3}\n\t"                                                                                        \
    "ldmia.w lr!, {r4-r7}\n\t"                                                                                         \
    "smlad   r8, r0, r4, r8\n\t"                                                                                       \
    "smlad   r9, r0, r5, r9\n\t"                                                                                       \
    "smlad   r10, r1, r4, r10\n\t"                                                                                     \
    "smlad   r11, r1, r5, r11\n\t"                                                                                     \
    "smlad   r8, r2, r6, r8\n\t"                                                                                       \
    "smlad   r9, r2, r7, r9\n\t"                                                                                       \
    "smlad   r10, r3, r6, r10\n\t"                                                                                     \
    "smlad   r11, r3, r7, r11\n\t"

/* Sums of channel A in r8-r9, of B in r10-r11; r12 weights, lr buffer. On the stack, from sp: offset of pixel 1, end of
 * pairs, pair, out, output zero point, end of the buffer, entry, buffer. */
DHN_CALLED void dhn_group_w16(const dhn_group_t *g, int8_t *output, int32_t count)
{
    register int32_t to1 __asm__("r0") = dhn_pixel_offset(g, 1, count);
    register const dhn_pair_t *pair_end __asm__("r1") = g->pair_end;
    register const dhn_pair_t *pair __asm__("r2") = g->pair;
    register int8_t *out __asm__("r3") = output;
    register int32_t zero __asm__("r4") = g->out_zp;
    register const int16_t *x_end __asm__("r5") = g->x_end;
    register uint32_t entry __asm__("r6") = dhn_tile_entry(g->steps, 8u, 10u * 4u);
    register const int16_t *x __asm__("r7") = g->x;
    register const int8_t *w __asm__("r12") = g->weight;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0-r7}\n\t"
        "mov     r6, r2\n"
        "1:\n\t"
        "ldrd    r0, lr, [sp, #24]\n\t"
        "ldrd    r8, r10, [r6]\n\t"
        "mov     r9, r8\n\t"
        "mov     r11, r10\n\t"
        "add     pc, r0\n\t"
        "nop\n"
        "2:\n\t"
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        "ldr     r0, [sp, #20]\n\t"
        "cmp     lr, r0\n\t"
        "bne     2b\n\t"
        "ldm.w   sp, {r4-r7, lr}\n\t"
        "ldrd    r0, r1, [r6, #8]\n\t"
        "ldrd    r2, r3, [r6, #16]\n\t"
        "smmlar  r8, r8, r0, r8\n\t"
        "smmlar  r9, r9, r0, r9\n\t"
        "smmlar  r10, r10, r2, r10\n\t"
        "smmlar  r11, r11, r2, r11\n\t"
        "smmlar  r8, r8, r1, lr\n\t"
        "smmlar  r9, r9, r1, lr\n\t"
        "smmlar  r10, r10, r3, lr\n\t"
        "smmlar  r11, r11, r3, lr\n\t"
        "ssat    r8, #8, r8\n\t"
        "ssat    r9, #8, r9\n\t"
        "ssat    r10, #8, r10\n\t"
        "ssat    r11, #8, r11\n\t"
        "bfi     r8, r10, #8, #8\n\t"
        "bfi     r9, r11, #8, #8\n\t"
        "strh    r9, [r7, r4]\n\t"
        "strh    r8, [r7], #2\n\t"
        "adds    r6, #24\n\t"
        "strd    r6, r7, [sp, #8]\n\t"
        "cmp     r6, r5\n\t"
        "bne     1b\n\t"
        "add     sp, #32"
        : "+r"(to1), "+r"(pair_end), "+r"(pair), "+r"(out), "+r"(zero), "+r"(x_end), "+r"(entry), "+r"(x), "+r"(w)
        :
        : "r8", "r9", "r10", "r11", "lr", "cc", "memory");
    /* clang-format on */
}

#else

static inline void dhn_group_w16(const dhn_group_t *g, int8_t *out, int32_t count)
{
    for (int i = 1; i >= 0; i--) {
        const int8_t *w = g->weight;
        int8_t *to = out + dhn_pixel_offset(g, i, count);
        for (const dhn_pair_t *pair = g->pair; pair != g->pair_end; pair++, to += 2) {
            int32_t a = pair->bias[0], b = pair->bias[1];
            for (const int16_t *x = g->x + 2 * i; x < g->x_end; x += 4, w += 8) {
                a = dhn_smlad(dhn_load32(w), dhn_load32(x), a);
                b = dhn_smlad(dhn_load32(w + 4), dhn_load32(x), b);
            }
            dhn_store_pixel(g, pair, to, a, b);
        }
    }
}

#endif

#endif
