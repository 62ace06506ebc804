/* Four neighbouring outputs of one channel under a filter of any size. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_DEPTHWISE_ANY_TILE_H
#define DHN_ARMV7EM_DEPTHWISE_ANY_TILE_H

#include "dsp.h"

enum { DHN_DEPTHWISE_ANY_TILE = 4 };

/* Steps in bytes. The order of the fields is that in which the assembly loads them. */
typedef struct {
    int32_t words; /* of two weights in a row of the filter */
    int32_t out_zp;
    int32_t scale, round; /* dhn_fused_t */
    int8_t *out;
    int32_t out_step;
    const uint32_t *w;
    const int16_t *x;
    int32_t stride, stride3; /* once and three times: from one output's inputs to the next's */
    int32_t rows;
    int32_t pitch;
    int32_t bias;
} dhn_depthwise_any_t;

/* 11 instructions for eight products, 5 more for a row, 41 for the four outputs. */
static __attribute__((noinline)) void dhn_depthwise_any_four(const dhn_depthwise_any_t *t)
{
#if defined(__ARM_FEATURE_DSP)
    register const dhn_depthwise_any_t *r0 __asm__("r0") = t;
    __asm__ volatile("ldm r0!, {r1-r6}\n"
                     "push {r1-r6}\n"
                     "ldm r0, {r0-r3, r4, r5, r6}\n" /* w, x, stride, stride3, rows, pitch, bias */
                     "mov r12, r4\n"
                     "mov lr, r5\n"
                     "mov r7, r6\n"
                     "mov r8, r6\n"
                     "mov r9, r6\n"
                     "1:\n"
                     "ldr r4, [sp]\n"
                     "mov r5, r1\n"
                     "2:\n"
                     "ldr r10, [r0], #4\n"
                     "ldr r11, [r5, r2]\n"
                     "smlad r7, r11, r10, r7\n"
                     "ldr r11, [r5, r2, lsl #1]\n"
                     "smlad r8, r11, r10, r8\n"
                     "ldr r11, [r5, r3]\n"
                     "smlad r9, r11, r10, r9\n"
                     "ldr r11, [r5], #4\n"
                     "smlad r6, r11, r10, r6\n"
                     "subs r4, r4, #1\n"
                     "bne 2b\n"
                     "add r1, r1, lr\n"
                     "subs r12, r12, #1\n"
                     "bne 1b\n"
                     "ldm sp, {r0-r5}\n" /* words, out_zp, scale, round, out, out_step */
                     "smmlar r6, r6, r2, r6\n"
                     "smmlar r7, r7, r2, r7\n"
                     "smmlar r8, r8, r2, r8\n"
                     "smmlar r9, r9, r2, r9\n"
                     "smmlar r6, r6, r3, r1\n"
                     "smmlar r7, r7, r3, r1\n"
                     "smmlar r8, r8, r3, r1\n"
                     "smmlar r9, r9, r3, r1\n"
                     "ssat r6, #8, r6\n"
                     "ssat r7, #8, r7\n"
                     "ssat r8, #8, r8\n"
                     "ssat r9, #8, r9\n"
                     "strb r6, [r4]\n"
                     "strb r7, [r4, r5]\n"
                     "add r4, r4, r5, lsl #1\n"
                     "strb r8, [r4]\n"
                     "strb r9, [r4, r5]\n"
                     "add sp, sp, #24\n"
                     : "+r"(r0)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
#else
    for (int32_t i = 0; i < DHN_DEPTHWISE_ANY_TILE; i++) {
        const uint32_t *w = t->w;
        const int8_t *x = (const int8_t *)t->x + i * t->stride;
        int32_t acc = t->bias;
        for (int32_t row = 0; row < t->rows; row++, x += t->pitch) {
            for (int32_t k = 0; k < t->words; k++) {
                acc = dhn_smlad(dhn_load32(x + 4 * k), *w++, acc);
            }
        }
        t->out[i * t->out_step] = (int8_t)dhn_requantize_fused(acc, t->scale, t->round, t->out_zp);
    }
#endif
}

#endif
