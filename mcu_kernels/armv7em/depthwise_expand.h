/* Bytes of four interleaved channels into int16 lines, one plane per channel. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_DEPTHWISE_EXPAND_H
#define DHN_ARMV7EM_DEPTHWISE_EXPAND_H

#include "dsp.h"

/* `lines` lines, each of one position alone if singles has bit 0, of pairs up to pair_bytes of output, and of one more
 * alone if it has bit 1. Pairs come to lie at multiples of 4. The order is that in which the assembly loads. */
typedef struct {
    const int8_t *in;
    int32_t step; /* bytes between positions of the input */
    int16_t *to;
    int32_t line_step;
    int32_t pair_bytes;
    int32_t singles;
    int32_t lines;
} dhn_depthwise_lines_t;

typedef void dhn_depthwise_expand_fn(const dhn_depthwise_lines_t *t);

#if defined(__ARM_FEATURE_DSP)

/* r0 input line, r1 step, r2 output line, r3 line step, r4 bytes of pairs, r5 singles; r7 and r8 run, r6 is where pairs end,
 * the stack has the lines that are left. p: bytes from line to line; q1 - q3: 1 to 3 planes. */
#define DW_SINGLE(q1, q2, q3)                                                                                          \
    "ldr r9, [r7]\n"                                                                                                   \
    "sxtb16 r10, r9\n"                                                                                                 \
    "sxtb16 r9, r9, ror #8\n"                                                                                          \
    "strh r10, [r8]\n"                                                                                                 \
    "strh r9, [r8, #" q1 "]\n"                                                                                         \
    "lsr r10, r10, #16\n"                                                                                              \
    "lsr r9, r9, #16\n"                                                                                                \
    "strh r10, [r8, #" q2 "]\n"                                                                                        \
    "strh r9, [r8, #" q3 "]\n"
#define DW_EXPAND(name, p, q1, q2, q3)                                                                                 \
    static __attribute__((noinline)) void name(const dhn_depthwise_lines_t *t)                                         \
    {                                                                                                                  \
        register const dhn_depthwise_lines_t *r0 __asm__("r0") = t;                                                    \
        __asm__ volatile("ldm r0, {r0-r6}\n"                                                                           \
                         "push {r6}\n"                                                                                 \
                         "1:\n"                                                                                        \
                         "mov r7, r0\n"                                                                                \
                         "mov r8, r2\n"                                                                                \
                         "tst r5, #1\n"                                                                                \
                         "beq 2f\n" DW_SINGLE(q1, q2, q3) "add r7, r7, r1\n"                                           \
                                                          "add r8, r8, #2\n"                                           \
                                                          "2:\n"                                                       \
                                                          "add r6, r8, r4\n"                                           \
                                                          "cbz r4, 4f\n"                                               \
                                                          "3:\n" /* 17 instructions for eight values */                \
                                                          "ldr r9, [r7]\n"                                             \
                                                          "ldr r10, [r7, r1]\n"                                        \
                                                          "add r7, r7, r1, lsl #1\n"                                   \
                                                          "sxtb16 r11, r9\n"                                           \
                                                          "sxtb16 r9, r9, ror #8\n"                                    \
                                                          "sxtb16 r12, r10\n"                                          \
                                                          "sxtb16 r10, r10, ror #8\n"                                  \
                                                          "pkhbt lr, r11, r12, lsl #16\n"                              \
                                                          "pkhtb r12, r12, r11, asr #16\n"                             \
                                                          "str r12, [r8, #" q2 "]\n"                                   \
                                                          "pkhbt r12, r9, r10, lsl #16\n"                              \
                                                          "pkhtb r10, r10, r9, asr #16\n"                              \
                                                          "str r12, [r8, #" q1 "]\n"                                   \
                                                          "str r10, [r8, #" q3 "]\n"                                   \
                                                          "str lr, [r8], #4\n"                                         \
                                                          "cmp r8, r6\n"                                               \
                                                          "bne 3b\n"                                                   \
                                                          "4:\n"                                                       \
                                                          "tst r5, #2\n"                                               \
                                                          "beq 5f\n" DW_SINGLE(q1, q2, q3) "5:\n"                      \
                                                                                           "ldr r6, [sp]\n"            \
                                                                                           "add r0, r0, r3\n"          \
                                                                                           "add r2, r2, #" p "\n"      \
                                                                                           "subs r6, r6, #1\n"         \
                                                                                           "str r6, [sp]\n"            \
                                                                                           "bne 1b\n"                  \
                                                                                           "add sp, sp, #4\n"          \
                         : "+r"(r0)                                                                                    \
                         :                                                                                             \
                         : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc",      \
                           "memory");                                                                                  \
    }

/* clang-format off */
DW_EXPAND(dhn_depthwise_expand_s1_narrow, "32", "512", "1024", "1536")
DW_EXPAND(dhn_depthwise_expand_s1_wide, "128", "768", "1536", "2304")
DW_EXPAND(dhn_depthwise_expand_s2_narrow, "32", "288", "576", "864")
DW_EXPAND(dhn_depthwise_expand_s2_wide, "128", "640", "1280", "1920")
/* clang-format on */

#undef DW_SINGLE
#undef DW_EXPAND

#else

static inline void dhn_depthwise_expand(const dhn_depthwise_lines_t *t, int32_t pitch, int32_t plane)
{
    int32_t const n = t->pair_bytes / 2 + (t->singles & 1) + t->singles / 2;
    for (int32_t y = 0; y < t->lines; y++) {
        for (int32_t x = 0; x < n; x++) {
            for (int32_t c = 0; c < 4; c++) {
                t->to[y * pitch + x + c * plane] = t->in[y * t->line_step + x * t->step + c];
            }
        }
    }
}

static inline void dhn_depthwise_expand_s1_narrow(const dhn_depthwise_lines_t *t)
{
    dhn_depthwise_expand(t, 16, 256);
}

static inline void dhn_depthwise_expand_s1_wide(const dhn_depthwise_lines_t *t)
{
    dhn_depthwise_expand(t, 64, 384);
}

static inline void dhn_depthwise_expand_s2_narrow(const dhn_depthwise_lines_t *t)
{
    dhn_depthwise_expand(t, 16, 144);
}

static inline void dhn_depthwise_expand_s2_wide(const dhn_depthwise_lines_t *t)
{
    dhn_depthwise_expand(t, 64, 320);
}

#endif
#endif
