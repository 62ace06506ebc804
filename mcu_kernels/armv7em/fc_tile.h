/* The inner loop of fully connected layers: two output channels whose int8 weights share halfwords. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_FC_TILE_H
#define DHN_ARMV7EM_FC_TILE_H

#include "dsp.h"

/* Inputs per turn. */
enum { DHN_FC_STEP = 16 };

typedef struct {
    int32_t a, b;
} dhn_fc_pair_t;

/* Each halfword of w is A + 256 * B. The raw halfwords sum up A's and 256 times B's products, their low bytes A's alone:
 * one unpacking for four products. B's sum comes out right while it fits 24 bits. x and w run in the same order and have a
 * multiple of 16 inputs, at least 16. 30 instructions for 32 products. */
static inline dhn_fc_pair_t dhn_fc_pair(const int16_t *x, const int16_t *w, const int16_t *x_end)
{
    int32_t low, both;
#if defined(__ARM_FEATURE_DSP)
    register const int16_t *r0 __asm__("r0") = x;
    register const int16_t *r1 __asm__("r1") = w;
    register const int16_t *r2 __asm__("r2") = x_end;
    register int32_t r3 __asm__("r3") = 0;
    register int32_t r12 __asm__("r12") = 0;
#define DHN_FC_EIGHT                                                                                                   \
    "ldm r0!, {r4-r7}\n"                                                                                               \
    "ldm r1!, {r8-r11}\n"                                                                                              \
    "sxtb16 lr, r8\n"                                                                                                  \
    "smlad r12, r8, r4, r12\n"                                                                                         \
    "smlad r3, lr, r4, r3\n"                                                                                           \
    "sxtb16 lr, r9\n"                                                                                                  \
    "smlad r12, r9, r5, r12\n"                                                                                         \
    "smlad r3, lr, r5, r3\n"                                                                                           \
    "sxtb16 lr, r10\n"                                                                                                 \
    "smlad r12, r10, r6, r12\n"                                                                                        \
    "smlad r3, lr, r6, r3\n"                                                                                           \
    "sxtb16 lr, r11\n"                                                                                                 \
    "smlad r12, r11, r7, r12\n"                                                                                        \
    "smlad r3, lr, r7, r3\n"
    __asm__ volatile("1:\n" DHN_FC_EIGHT DHN_FC_EIGHT "cmp r0, r2\n"
                     "bne 1b\n"
                     : "+r"(r0), "+r"(r1), "+r"(r3), "+r"(r12)
                     : "r"(r2)
                     : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "lr", "cc", "memory");
#undef DHN_FC_EIGHT
    low = r3;
    both = r12;
#else
    low = both = 0;
    for (; x != x_end; x += 2, w += 2) {
        both = dhn_smlad(dhn_load32(w), dhn_load32(x), both);
        low = dhn_smlad(dhn_sxtb16(dhn_load32(w)), dhn_load32(x), low);
    }
#endif
    dhn_fc_pair_t const sums = {low, (int32_t)((uint32_t)both - (uint32_t)low) >> 8};
    return sums;
}

#endif
