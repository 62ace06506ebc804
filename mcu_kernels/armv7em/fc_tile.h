/* Fully connected, the whole of it: a row of inputs against pairs of output channels whose int8 weights share halfwords. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_FC_TILE_H
#define DHN_ARMV7EM_FC_TILE_H

#include "dsp.h"

/* Inputs per turn of the inner loop. */
enum { DHN_FC_STEP = 16 };

/* x to x_end: a multiple of 16 inputs, at least 16; weights in the same order, one pair of channels after the other; two
 * rows of the fused table per pair. The order of the fields is that in which the assembly loads them. */
typedef struct {
    const int16_t *x;
    const dhn_fused_t *row;
    int32_t out_zp;
    int8_t *out;
    int32_t pairs; /* at least 1 */
    const int16_t *x_end;
    const int16_t *w;
} dhn_fc_row_t;

/* Each halfword of w is A + 256 * B. The raw halfwords sum up A's and 256 times B's products in r12, their low bytes A's
 * alone in r3: one unpacking for four products. Both sums start at A's bias. B's comes out right while it fits 24 bits.
 * 30 instructions for 32 products, 29 more for a pair. */
static __attribute__((noinline)) void dhn_fc_row(const dhn_fc_row_t *t)
{
#if defined(__ARM_FEATURE_DSP)
    register const dhn_fc_row_t *r0 __asm__("r0") = t;
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
    __asm__ volatile("ldm r0, {r3-r9}\n"
                     "mov r2, r8\n"
                     "mov r1, r9\n"
                     "push {r3-r7}\n"
                     "1:\n"
                     "ldrd r0, r3, [sp]\n"
                     "ldr r3, [r3]\n"
                     "mov r12, r3\n"
                     "2:\n" DHN_FC_EIGHT DHN_FC_EIGHT "cmp r0, r2\n"
                     "bne 2b\n"
                     "ldr r0, [sp, #4]\n"
                     "ldrd r10, r11, [sp, #8]\n"
                     "ldm r0!, {r4-r9}\n" /* bias, scale, round of A, then of B */
                     "sub r12, r12, r3\n"
                     "add r12, r7, r12, asr #8\n"
                     "smmlar r3, r3, r5, r3\n"
                     "smmlar r12, r12, r8, r12\n"
                     "smmlar r3, r3, r6, r10\n"
                     "smmlar r12, r12, r9, r10\n"
                     "ssat r3, #8, r3\n"
                     "ssat r12, #8, r12\n"
                     "strb r3, [r11], #1\n"
                     "strb r12, [r11], #1\n"
                     "ldr r4, [sp, #16]\n"
                     "str r0, [sp, #4]\n"
                     "subs r4, r4, #1\n"
                     "strd r11, r4, [sp, #12]\n"
                     "bne 1b\n"
                     "add sp, sp, #20\n"
                     : "+r"(r0)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
#undef DHN_FC_EIGHT
#else
    const dhn_fused_t *row = t->row;
    const int16_t *w = t->w;
    int8_t *out = t->out;
    for (int32_t pair = 0; pair < t->pairs; pair++, row += 2) {
        int32_t low = row->bias;
        int32_t both = low;
        for (const int16_t *x = t->x; x != t->x_end; x += 2, w += 2) {
            both = dhn_smlad(dhn_load32(w), dhn_load32(x), both);
            low = dhn_smlad(dhn_sxtb16(dhn_load32(w)), dhn_load32(x), low);
        }
        both = row[1].bias + ((int32_t)((uint32_t)both - (uint32_t)low) >> 8);
        *out++ = (int8_t)dhn_requantize_fused(low, row->scale, row->round, t->out_zp);
        *out++ = (int8_t)dhn_requantize_fused(both, row[1].scale, row[1].round, t->out_zp);
    }
#endif
}

#endif
