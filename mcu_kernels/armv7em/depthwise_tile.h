/* The inner loop of depthwise 3x3: pairs of output lines of one channel, two by two outputs per turn. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_DEPTHWISE_TILE_H
#define DHN_ARMV7EM_DEPTHWISE_TILE_H

#include "dsp.h"

/* Row k of the filter is (w0, w1, w2): pair[2k] holds (w0, w1), pair[2k + 1] holds (w1, w2). */
typedef struct {
    dhn_fused_t fused;
    uint32_t pair[6];
} dhn_depthwise_channel_t;

/* One call. Input lines are int16, aligned to 4, a constant pitch apart. A line pair takes columns two at a time until the
 * input reaches `end`, then one more if `odd`; next_* lead to the next line pair. A line_step of 0 keeps the first line
 * only. The order of the fields is that in which the assembly loads them. */
typedef struct {
    int32_t bias[2]; /* twice the same */
    int32_t scale, round;
    int32_t step, line_step; /* bytes between outputs */
    int32_t out_zp;
    const int16_t *end;
    int32_t next_in, next_out; /* bytes, from where a line pair's columns end */
    int32_t next_end;          /* bytes from one line pair's input to the next one's */
    int32_t line_pairs;
    int32_t odd;
    const uint32_t *pair;
    const int16_t *in;
    int8_t *out;
} dhn_depthwise_band_t;

typedef void dhn_depthwise_band_fn(const dhn_depthwise_band_t *t);

/* Positions from line to line: a line that is wider takes another kernel. */
enum { DHN_DEPTHWISE_NARROW = 16, DHN_DEPTHWISE_WIDE = 64 };

#if defined(__ARM_FEATURE_DSP)

/* r0-r5 weights, r6 input, r7 output, r8-r11 accumulators (line 0: r8, r9; line 1: r10, r11), r12 and lr inputs. With all
 * fourteen registers taken, the first thirteen fields lie on the stack. */
#define DW_ENTER                                                                                                       \
    "ldm r0!, {r1-r12, lr}\n"                                                                                          \
    "push {r1-r12, lr}\n"                                                                                              \
    "ldm r0, {r5, r6, r7}\n"                                                                                           \
    "ldm r5, {r0-r5}\n"                                                                                                \
    "1:\n"                                                                                                             \
    "ldr lr, [sp, #28]\n"                                                                                              \
    "cmp r6, lr\n"                                                                                                     \
    "beq 3f\n"                                                                                                         \
    "2:\n"                                                                                                             \
    "ldrd r8, r10, [sp]\n"
/* The four sums to int8, stored last to first. */
#define DW_STORE4                                                                                                      \
    "ldrd r12, lr, [sp, #8]\n"                                                                                         \
    "smmlar r8, r8, r12, r8\n"                                                                                         \
    "smmlar r9, r9, r12, r9\n"                                                                                         \
    "smmlar r10, r10, r12, r10\n"                                                                                      \
    "smmlar r11, r11, r12, r11\n"                                                                                      \
    "ldr r12, [sp, #24]\n"                                                                                             \
    "smmlar r8, r8, lr, r12\n"                                                                                         \
    "smmlar r9, r9, lr, r12\n"                                                                                         \
    "smmlar r10, r10, lr, r12\n"                                                                                       \
    "smmlar r11, r11, lr, r12\n"                                                                                       \
    "ldrd r12, lr, [sp, #16]\n"                                                                                        \
    "ssat r8, #8, r8\n"                                                                                                \
    "ssat r9, #8, r9\n"                                                                                                \
    "ssat r10, #8, r10\n"                                                                                              \
    "ssat r11, #8, r11\n"                                                                                              \
    "add lr, r7, lr\n"                                                                                                 \
    "strb r11, [lr, r12]\n"                                                                                            \
    "strb r10, [lr]\n"                                                                                                 \
    "strb r9, [r7, r12]\n"                                                                                             \
    "strb r8, [r7]\n"                                                                                                  \
    "ldr lr, [sp, #28]\n"                                                                                              \
    "add r7, r7, r12, lsl #1\n"                                                                                        \
    "cmp r6, lr\n"                                                                                                     \
    "bne 2b\n"
/* The odd column of a line pair follows. */
#define DW_ODD                                                                                                         \
    "3:\n"                                                                                                             \
    "ldr r12, [sp, #48]\n"                                                                                             \
    "cmp r12, #0\n"                                                                                                    \
    "beq 4f\n"                                                                                                         \
    "ldrd r8, r10, [sp]\n"
#define DW_STORE2                                                                                                      \
    "ldrd r12, lr, [sp, #8]\n"                                                                                         \
    "smmlar r8, r8, r12, r8\n"                                                                                         \
    "smmlar r10, r10, r12, r10\n"                                                                                      \
    "ldr r12, [sp, #24]\n"                                                                                             \
    "smmlar r8, r8, lr, r12\n"                                                                                         \
    "smmlar r10, r10, lr, r12\n"                                                                                       \
    "ldr r12, [sp, #20]\n"                                                                                             \
    "ssat r8, #8, r8\n"                                                                                                \
    "ssat r10, #8, r10\n"                                                                                              \
    "strb r10, [r7, r12]\n"                                                                                            \
    "strb r8, [r7]\n"
#define DW_LEAVE                                                                                                       \
    "4:\n"                                                                                                             \
    "ldrd r8, r9, [sp, #32]\n"                                                                                         \
    "ldrd r10, r11, [sp, #40]\n"                                                                                       \
    "ldr lr, [sp, #28]\n"                                                                                              \
    "add r6, r6, r8\n"                                                                                                 \
    "add r7, r7, r9\n"                                                                                                 \
    "add lr, lr, r10\n"                                                                                                \
    "str lr, [sp, #28]\n"                                                                                              \
    "subs r11, r11, #1\n"                                                                                              \
    "str r11, [sp, #44]\n"                                                                                             \
    "bne 1b\n"                                                                                                         \
    "add sp, sp, #52\n"

/* An input line against filter rows (wa, wb): two columns of an output line. `first`: the line's first products start from
 * the bias in `a`. */
#define DW_S1_FIRST(a, b, wa, wb)                                                                                      \
    "smlatb " b ", r12, " wa ", " a "\n"                                                                               \
    "smlad " a ", r12, " wa ", " a "\n"                                                                                \
    "smlabt " a ", lr, " wb ", " a "\n"                                                                                \
    "smlad " b ", lr, " wb ", " b "\n"
#define DW_S1_NEXT(a, b, wa, wb)                                                                                       \
    "smlatb " b ", r12, " wa ", " b "\n"                                                                               \
    "smlad " a ", r12, " wa ", " a "\n"                                                                                \
    "smlabt " a ", lr, " wb ", " a "\n"                                                                                \
    "smlad " b ", lr, " wb ", " b "\n"
/* One column. */
#define DW_ONE(a, wa, wb)                                                                                              \
    "smlad " a ", r12, " wa ", " a "\n"                                                                                \
    "smlabt " a ", lr, " wb ", " a "\n"
/* Stride 2: the columns' taps are (r12, lr) and (lr, the word behind), which is loaded when r12 is done. Weights serve two
 * output lines on the input line that these share. */
#define DW_S2_FIRST(a, b, wa, wb)                                                                                      \
    "smlad " b ", lr, " wa ", " a "\n"                                                                                 \
    "smlad " a ", r12, " wa ", " a "\n"                                                                                \
    "smlabt " a ", lr, " wb ", " a "\n"
#define DW_S2_NEXT(a, b, wa, wb)                                                                                       \
    "smlad " b ", lr, " wa ", " b "\n"                                                                                 \
    "smlad " a ", r12, " wa ", " a "\n"                                                                                \
    "smlabt " a ", lr, " wb ", " a "\n"
#define DW_S2_LAST(b, wb) "smlabt " b ", r12, " wb ", " b "\n"

#define DW_CLOBBERS "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"
#define DW_FUNCTION(name, body)                                                                                        \
    static __attribute__((noinline)) void name(const dhn_depthwise_band_t *t)                                          \
    {                                                                                                                  \
        register const dhn_depthwise_band_t *r0 __asm__("r0") = t;                                                     \
        __asm__ volatile(body : "+r"(r0) : : DW_CLOBBERS);                                                             \
    }

/* 53 instructions for four outputs, 30 for the two of an odd column. p1 - p3: the pitch times 1 to 3 in bytes; q1 - q3: 4
 * less. */
#define DW_BAND_S1(p1, p2, p3, q1, q2, q3)                                                                             \
    DW_ENTER                                                                                                           \
    "ldrd r12, lr, [r6], #4\n" DW_S1_FIRST("r8", "r9", "r0",                                                           \
                                           "r1") "ldrd r12, lr, [r6, #" q1 "]\n" DW_S1_NEXT("r8", "r9", "r2", "r3")    \
        DW_S1_FIRST("r10", "r11", "r0", "r1") "ldrd r12, lr, [r6, #" q2 "]\n" DW_S1_NEXT("r8", "r9", "r4", "r5")       \
            DW_S1_NEXT("r10", "r11", "r2", "r3") "ldrd r12, lr, [r6, #" q3 "]\n" DW_S1_NEXT("r10", "r11", "r4", "r5")  \
                DW_STORE4 DW_ODD                                                                                       \
        "ldrd r12, lr, [r6]\n" DW_ONE("r8", "r0", "r1") "ldrd r12, lr, [r6, #" p1 "]\n" DW_ONE("r8", "r2", "r3")       \
            DW_ONE("r10", "r0", "r1") "ldrd r12, lr, [r6, #" p2 "]\n" DW_ONE("r8", "r4", "r5")                         \
                DW_ONE("r10", "r2", "r3") "ldrd r12, lr, [r6, #" p3 "]\n" DW_ONE("r10", "r4", "r5") DW_STORE2 DW_LEAVE

/* 59 instructions for four outputs, 31 for the two of an odd column. p: the pitch times 1 to 4 in bytes; q: 8 less. */
#define DW_BAND_S2(p1, p2, p3, p4, q1, q2, q3, q4)                                                                     \
    DW_ENTER                                                                                                           \
    "ldrd r12, lr, [r6], #8\n" DW_S2_FIRST("r8", "r9", "r0", "r1") "ldr r12, [r6]\n" DW_S2_LAST(                       \
        "r9", "r1") "ldrd r12, lr, [r6, #" q1                                                                          \
                    "]\n" DW_S2_NEXT("r8", "r9", "r2", "r3") "ldr r12, [r6, #" p1 "]\n" DW_S2_LAST(                    \
                        "r9", "r3") "ldrd r12, lr, [r6, #" q2 "]\n" DW_S2_NEXT("r8", "r9", "r4", "r5")                 \
                        DW_S2_FIRST("r10", "r11", "r0", "r1") "ldr r12, [r6, #" p2 "]\n" DW_S2_LAST("r9", "r5")        \
                            DW_S2_LAST("r11", "r1") "ldrd r12, lr, [r6, #" q3 "]\n" DW_S2_NEXT(                        \
                                "r10", "r11", "r2",                                                                    \
                                "r3") "ldr r12, [r6, #" p3                                                             \
                                      "]\n" DW_S2_LAST("r11", "r3") "ldrd r12, lr, [r6, #" q4 "]\n" DW_S2_NEXT(        \
                                          "r10", "r11", "r4", "r5") "ldr r12, [r6, #" p4 "]\n" DW_S2_LAST("r11", "r5") \
                                          DW_STORE4 DW_ODD                                                             \
        "ldrd r12, lr, [r6]\n" DW_ONE("r8", "r0", "r1") "ldrd r12, lr, [r6, #" p1 "]\n" DW_ONE(                        \
            "r8", "r2", "r3") "ldrd r12, lr, [r6, #" p2 "]\n" DW_ONE("r8", "r4", "r5")                                 \
            DW_ONE("r10", "r0", "r1") "ldrd r12, lr, [r6, #" p3                                                        \
                                      "]\n" DW_ONE("r10", "r2", "r3") "ldrd r12, lr, [r6, #" p4                        \
                                                                      "]\n" DW_ONE("r10", "r4", "r5")                  \
                                                                          DW_STORE2 DW_LEAVE

/* clang-format off */
DW_FUNCTION(dhn_depthwise_s1_narrow, DW_BAND_S1("32", "64", "96", "28", "60", "92"))
DW_FUNCTION(dhn_depthwise_s1_wide, DW_BAND_S1("128", "256", "384", "124", "252", "380"))
DW_FUNCTION(dhn_depthwise_s2_narrow, DW_BAND_S2("32", "64", "96", "128", "24", "56", "88", "120"))
DW_FUNCTION(dhn_depthwise_s2_wide, DW_BAND_S2("128", "256", "384", "512", "120", "248", "376", "504"))
/* clang-format on */

#undef DW_ENTER
#undef DW_STORE4
#undef DW_ODD
#undef DW_STORE2
#undef DW_LEAVE
#undef DW_S1_FIRST
#undef DW_S1_NEXT
#undef DW_ONE
#undef DW_S2_FIRST
#undef DW_S2_NEXT
#undef DW_S2_LAST
#undef DW_CLOBBERS
#undef DW_FUNCTION
#undef DW_BAND_S1
#undef DW_BAND_S2

#else

static inline int8_t dhn_depthwise_at(const dhn_depthwise_band_t *t, const int16_t *in, int32_t pitch)
{
    int32_t acc = t->bias[0];
    for (int32_t k = 0; k < 3; k++, in += pitch) {
        acc = dhn_smlad(dhn_load32(in), t->pair[2 * k], acc);
        acc = dhn_smlabt(dhn_load16(in + 2), t->pair[2 * k + 1], acc);
    }
    return (int8_t)dhn_requantize_fused(acc, t->scale, t->round, t->out_zp);
}

static inline void dhn_depthwise_band(const dhn_depthwise_band_t *t, int32_t stride, int32_t pitch)
{
    int32_t const columns = (int32_t)(t->end - t->in) / stride + t->odd;
    for (int32_t y = 0; y < 2 * t->line_pairs; y++) {
        /* of a pair of lines the second comes first, lest it overwrites the first where line_step is 0 */
        int32_t const line = y ^ 1;
        for (int32_t x = 0; x < columns; x++) {
            const int16_t *const in = t->in + line * stride * pitch + x * stride;
            t->out[line * t->line_step + x * t->step] = dhn_depthwise_at(t, in, pitch);
        }
    }
}

static inline void dhn_depthwise_s1_narrow(const dhn_depthwise_band_t *t)
{
    dhn_depthwise_band(t, 1, DHN_DEPTHWISE_NARROW);
}

static inline void dhn_depthwise_s1_wide(const dhn_depthwise_band_t *t)
{
    dhn_depthwise_band(t, 1, DHN_DEPTHWISE_WIDE);
}

static inline void dhn_depthwise_s2_narrow(const dhn_depthwise_band_t *t)
{
    dhn_depthwise_band(t, 2, DHN_DEPTHWISE_NARROW);
}

static inline void dhn_depthwise_s2_wide(const dhn_depthwise_band_t *t)
{
    dhn_depthwise_band(t, 2, DHN_DEPTHWISE_WIDE);
}

#endif
#endif
