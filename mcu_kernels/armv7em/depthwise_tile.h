/* The inner loop of depthwise 3x3: one line of outputs of one channel, two outputs per turn. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_DEPTHWISE_TILE_H
#define DHN_ARMV7EM_DEPTHWISE_TILE_H

#include "dsp.h"

/* What one channel needs all the time. Row k of the filter is (w0, w1, w2): pair[2k] holds (w0, w1), pair[2k + 1]
 * (w1, w2). The order of the fields is that of the loads below. */
typedef struct {
    int32_t scale, round, bias; /* dhn_fused_t */
    uint32_t pair[6];
} dhn_depthwise_channel_t;

/* One call: lines are int16, aligned to 4; `end` is where line[0] stops. Two outputs per turn, `step` bytes apart. */
typedef struct {
    int32_t step;
    const int16_t *end;
    int32_t out_zp;
    const dhn_depthwise_channel_t *channel;
    const int16_t *line[3];
    int8_t *out;
} dhn_depthwise_line_t;

#if defined(__ARM_FEATURE_DSP)

/* r0-r5 weights, r6-r8 lines, r9 output, r10-r11 accumulators, r12 and lr inputs. With all fourteen registers taken, what
 * a turn needs once lies on the stack: scale, round, step, end, bias, zero point. */
#define DHN_DEPTHWISE_ENTER                                                                                            \
    "ldm r0, {r2-r9}\n"                                                                                                \
    "ldm r5!, {r0, r1, r12}\n"                                                                                         \
    "push {r4}\n"                                                                                                      \
    "push {r12}\n"                                                                                                     \
    "push {r0-r3}\n"                                                                                                   \
    "ldm r5, {r0-r5}\n"                                                                                                \
    "1:\n"                                                                                                             \
    "ldr r10, [sp, #16]\n"
/* The second output is stored first: a step of 0 leaves the first. */
#define DHN_DEPTHWISE_LEAVE                                                                                            \
    "ldrd r12, lr, [sp]\n"                                                                                             \
    "smmlar r10, r10, r12, r10\n"                                                                                      \
    "smmlar r11, r11, r12, r11\n"                                                                                      \
    "ldr r12, [sp, #20]\n"                                                                                             \
    "smmlar r10, r10, lr, r12\n"                                                                                       \
    "smmlar r11, r11, lr, r12\n"                                                                                       \
    "ldrd r12, lr, [sp, #8]\n"                                                                                         \
    "ssat r10, #8, r10\n"                                                                                              \
    "ssat r11, #8, r11\n"                                                                                              \
    "strb r11, [r9, r12]\n"                                                                                            \
    "strb r10, [r9]\n"                                                                                                 \
    "add r9, r9, r12, lsl #1\n"                                                                                        \
    "cmp r6, lr\n"                                                                                                     \
    "bne 1b\n"                                                                                                         \
    "add sp, sp, #24\n"
#define DHN_DEPTHWISE_CLOBBERS                                                                                         \
    "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory"

static inline void dhn_depthwise_line_s1(const dhn_depthwise_line_t *t)
{
    register const dhn_depthwise_line_t *r0 __asm__("r0") = t;
    __asm__ volatile(DHN_DEPTHWISE_ENTER /* 30 instructions for two outputs */
                     "ldrd r12, lr, [r6], #4\n"
                     "smlatb r11, r12, r0, r10\n"
                     "smlad r10, r12, r0, r10\n"
                     "smlabt r10, lr, r1, r10\n"
                     "smlad r11, lr, r1, r11\n"
                     "ldrd r12, lr, [r7], #4\n"
                     "smlatb r11, r12, r2, r11\n"
                     "smlad r10, r12, r2, r10\n"
                     "smlabt r10, lr, r3, r10\n"
                     "smlad r11, lr, r3, r11\n"
                     "ldrd r12, lr, [r8], #4\n"
                     "smlatb r11, r12, r4, r11\n"
                     "smlad r10, r12, r4, r10\n"
                     "smlabt r10, lr, r5, r10\n"
                     "smlad r11, lr, r5, r11\n" DHN_DEPTHWISE_LEAVE
                     : "+r"(r0)
                     :
                     : DHN_DEPTHWISE_CLOBBERS);
}

static inline void dhn_depthwise_line_s2(const dhn_depthwise_line_t *t)
{
    register const dhn_depthwise_line_t *r0 __asm__("r0") = t;
    __asm__ volatile(DHN_DEPTHWISE_ENTER /* 33 instructions for two outputs */
                     "ldrd r12, lr, [r6], #8\n"
                     "smlad r11, lr, r0, r10\n"
                     "smlad r10, r12, r0, r10\n"
                     "ldr r12, [r6]\n"
                     "smlabt r10, lr, r1, r10\n"
                     "smlabt r11, r12, r1, r11\n"
                     "ldrd r12, lr, [r7], #8\n"
                     "smlad r11, lr, r2, r11\n"
                     "smlad r10, r12, r2, r10\n"
                     "ldr r12, [r7]\n"
                     "smlabt r10, lr, r3, r10\n"
                     "smlabt r11, r12, r3, r11\n"
                     "ldrd r12, lr, [r8], #8\n"
                     "smlad r11, lr, r4, r11\n"
                     "smlad r10, r12, r4, r10\n"
                     "ldr r12, [r8]\n"
                     "smlabt r10, lr, r5, r10\n"
                     "smlabt r11, r12, r5, r11\n" DHN_DEPTHWISE_LEAVE
                     : "+r"(r0)
                     :
                     : DHN_DEPTHWISE_CLOBBERS);
}

#undef DHN_DEPTHWISE_ENTER
#undef DHN_DEPTHWISE_LEAVE
#undef DHN_DEPTHWISE_CLOBBERS

#else

static inline int32_t dhn_depthwise_at(const dhn_depthwise_line_t *t, int32_t at)
{
    int32_t acc = t->channel->bias;
    for (int32_t k = 0; k < 3; k++) {
        acc = dhn_smlad(dhn_load32(t->line[k] + at), t->channel->pair[2 * k], acc);
        acc = dhn_smlabt(dhn_load16(t->line[k] + at + 2), t->channel->pair[2 * k + 1], acc);
    }
    return dhn_requantize_fused(acc, t->channel->scale, t->channel->round, t->out_zp);
}

static inline void dhn_depthwise_line(const dhn_depthwise_line_t *t, int32_t stride)
{
    int8_t *out = t->out;
    int32_t const count = (int32_t)(t->end - t->line[0]);
    for (int32_t at = 0; at < count; at += 2 * stride, out += 2 * t->step) {
        out[t->step] = (int8_t)dhn_depthwise_at(t, at + stride);
        *out = (int8_t)dhn_depthwise_at(t, at);
    }
}

static inline void dhn_depthwise_line_s1(const dhn_depthwise_line_t *t)
{
    dhn_depthwise_line(t, 1);
}

static inline void dhn_depthwise_line_s2(const dhn_depthwise_line_t *t)
{
    dhn_depthwise_line(t, 2);
}

#endif
#endif
