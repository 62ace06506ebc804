/* The vector instructions of Armv8.1-M (Helium) that kernels here use, with their meaning in C for the host twin. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_MVE_H
#define DHN_MVE_H

#include <stdint.h>
#include <string.h>

/* On the core: ACLE's intrinsics. On the host: the same names, computed. Only this file tells the two apart. */
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#else
#include "mve_host.h"
#endif

/* What takes the rounding as an argument must be compiled once for each. */
#define DHN_MVE_INLINE static inline __attribute__((always_inline))

/* Sums of products, where a network's time goes. For `pairs` pairs of pixels, `step` bytes apart, and `tiles` tiles of
 * weights: eight int32 start as the weights say, gather `bytes` (a multiple of 16) products each, and go to acc. The
 * assembly below knows this order of fields. */
typedef struct {
    const int8_t *x0, *x1, *w;
    int32_t *acc;
    int32_t bytes, tiles, step, pairs;
} dhn_mve_dots_t;

typedef void dhn_mve_dots_fn(const dhn_mve_dots_t *d);

#if defined(__ARM_FEATURE_MVE)

/* VMLADAVA adds sixteen products of int8 to a core register, which must be an even one, so there are eight accumulators
 * at most, LR among them. LDM and STM fill and empty all eight with one instruction. Odd registers hold pointers:
 *   r1, r3 pixels, r5 weights, r7 sums, r9 the pixel's end, r11 tiles left;
 *   s24 step, s25 bytes, s26 pairs left, s28 and s29 the pixels' starts, s30 tiles, s31 weights. */
#define DHN_MVE_ACCS "{r0, r2, r4, r6, r8, r10, r12, lr}"

/* Sixteen values of two pixels meet those of four channels: 14 instructions for 128 products. */
#define DHN_MVE_STEP_2X4                                                                                               \
    "vldrb.8 q0, [r1], #16\n"                                                                                          \
    "vldrb.8 q2, [r5], #16\n"                                                                                          \
    "vmladava.s8 r0, q0, q2\n"                                                                                         \
    "vldrb.8 q1, [r3], #16\n"                                                                                          \
    "vmladava.s8 r8, q1, q2\n"                                                                                         \
    "vldrb.8 q3, [r5], #16\n"                                                                                          \
    "vmladava.s8 r2, q0, q3\n"                                                                                         \
    "vldrb.8 q2, [r5], #16\n"                                                                                          \
    "vmladava.s8 r10, q1, q3\n"                                                                                        \
    "vldrb.8 q3, [r5], #16\n"                                                                                          \
    "vmladava.s8 r4, q0, q2\n"                                                                                         \
    "vmladava.s8 r12, q1, q2\n"                                                                                        \
    "vmladava.s8 r6, q0, q3\n"                                                                                         \
    "vmladava.s8 lr, q1, q3\n"

/* Sixteen values of one pixel meet those of eight channels: 17 instructions for 128 products. */
#define DHN_MVE_STEP_1X8                                                                                               \
    "vldrb.8 q0, [r1], #16\n"                                                                                          \
    "vldrb.8 q1, [r5], #16\n"                                                                                          \
    "vmladava.s8 r0, q0, q1\n"                                                                                         \
    "vldrb.8 q2, [r5], #16\n"                                                                                          \
    "vmladava.s8 r2, q0, q2\n"                                                                                         \
    "vldrb.8 q1, [r5], #16\n"                                                                                          \
    "vmladava.s8 r4, q0, q1\n"                                                                                         \
    "vldrb.8 q2, [r5], #16\n"                                                                                          \
    "vmladava.s8 r6, q0, q2\n"                                                                                         \
    "vldrb.8 q1, [r5], #16\n"                                                                                          \
    "vmladava.s8 r8, q0, q1\n"                                                                                         \
    "vldrb.8 q2, [r5], #16\n"                                                                                          \
    "vmladava.s8 r10, q0, q2\n"                                                                                        \
    "vldrb.8 q1, [r5], #16\n"                                                                                          \
    "vmladava.s8 r12, q0, q1\n"                                                                                        \
    "vldrb.8 q2, [r5], #16\n"                                                                                          \
    "vmladava.s8 lr, q0, q2\n"

/* `steps`: the unrolled ones, whose number must divide the blocks of 16. */
#define DHN_MVE_DOTS(name, steps)                                                                                      \
    __attribute__((naked, noinline, unused)) static void name(const dhn_mve_dots_t *d __attribute__((unused)))         \
    {                                                                                                                  \
        __asm__ volatile("push {r4-r11, lr}\n"                                                                         \
                         "vpush {d12-d15}\n"                                                                           \
                         "ldrd r1, r3, [r0]\n"                                                                         \
                         "ldrd r5, r7, [r0, #8]\n"                                                                     \
                         "ldrd r9, r11, [r0, #16]\n"                                                                   \
                         "vldr s24, [r0, #24]\n"                                                                       \
                         "vldr s26, [r0, #28]\n"                                                                       \
                         "vmov s25, r9\n"                                                                              \
                         "vmov s28, s29, r1, r3\n"                                                                     \
                         "vmov s30, s31, r11, r5\n"                                                                    \
                         "add r9, r9, r1\n"                                                                            \
                         "1:\n"                                                                                        \
                         "ldmia r5!, " DHN_MVE_ACCS "\n"                                                               \
                         "2:\n" steps "cmp r1, r9\n"                                                                   \
                         "bne 2b\n"                                                                                    \
                         "stmia r7!, " DHN_MVE_ACCS "\n"                                                               \
                         "vmov r1, r3, s28, s29\n"                                                                     \
                         "subs r11, #1\n"                                                                              \
                         "bne 1b\n"                                                                                    \
                         "vmov r5, r11, s24, s25\n"                                                                    \
                         "add r1, r1, r5\n"                                                                            \
                         "add r3, r3, r5\n"                                                                            \
                         "add r9, r1, r11\n"                                                                           \
                         "vmov s28, s29, r1, r3\n"                                                                     \
                         "vmov r11, s26\n"                                                                             \
                         "subs r11, #1\n"                                                                              \
                         "vmov s26, r11\n"                                                                             \
                         "vmov r11, r5, s30, s31\n"                                                                    \
                         "bne 1b\n"                                                                                    \
                         "vpop {d12-d15}\n"                                                                            \
                         "pop {r4-r11, pc}\n");                                                                        \
    }
DHN_MVE_DOTS(dhn_mve_dots_2x4_by1, DHN_MVE_STEP_2X4)
DHN_MVE_DOTS(dhn_mve_dots_2x4_by2, DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4)
DHN_MVE_DOTS(dhn_mve_dots_2x4_by3, DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4)
DHN_MVE_DOTS(dhn_mve_dots_2x4_by4, DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4)
DHN_MVE_DOTS(dhn_mve_dots_1x8_by1, DHN_MVE_STEP_1X8)
DHN_MVE_DOTS(dhn_mve_dots_1x8_by4, DHN_MVE_STEP_1X8 DHN_MVE_STEP_1X8 DHN_MVE_STEP_1X8 DHN_MVE_STEP_1X8)

/* The most unrolled loop for so many blocks of 16. Two pixels meet tiles of four channels. */
static inline dhn_mve_dots_fn *dhn_mve_dots_2x4(int32_t blocks)
{
    return (blocks % 3 == 0)   ? dhn_mve_dots_2x4_by3
           : (blocks % 4 == 0) ? dhn_mve_dots_2x4_by4
           : (blocks % 2 == 0) ? dhn_mve_dots_2x4_by2
                               : dhn_mve_dots_2x4_by1;
}

/* The first pixel of a pair alone meets tiles of eight channels. */
static inline dhn_mve_dots_fn *dhn_mve_dots_1x8(int32_t blocks)
{
    return (blocks % 4 == 0) ? dhn_mve_dots_1x8_by4 : dhn_mve_dots_1x8_by1;
}

/* Four sums as a vector. VMOV takes two at a time, which the compiler does not know. */
static inline int32x4_t dhn_mve_join(int32_t a, int32_t b, int32_t c, int32_t d)
{
    int32x4_t r;
    __asm__("vmov %q0[2], %q0[0], %1, %3\n"
            "vmov %q0[3], %q0[1], %2, %4"
            : "=&w"(r)
            : "r"(a), "r"(b), "r"(c), "r"(d));
    return r;
}

/* Saturated to the even lanes; nobody reads the odd ones. The intrinsics want these from somewhere, which costs a
 * copy. */
#define DHN_MVE_NARROW(name, to, from, text)                                                                           \
    static inline to name(from x)                                                                                      \
    {                                                                                                                  \
        to r;                                                                                                          \
        __asm__(text : "=w"(r) : "w"(x));                                                                              \
        return r;                                                                                                      \
    }
DHN_MVE_NARROW(dhn_mve_narrow16, int16x8_t, int32x4_t, "vqmovnb.s32 %q0, %q1")
DHN_MVE_NARROW(dhn_mve_narrow8, int8x16_t, int16x8_t, "vqmovnb.s16 %q0, %q1")

#else /* the host: what these loops compute */

static inline int16x8_t dhn_mve_narrow16(int32x4_t x)
{
    return vqmovnbq_s32(vdupq_n_s16(0), x);
}

static inline int8x16_t dhn_mve_narrow8(int16x8_t x)
{
    return vqmovnbq_s16(vdupq_n_s8(0), x);
}

static inline int32x4_t dhn_mve_join(int32_t a, int32_t b, int32_t c, int32_t d)
{
    int32_t const all[4] = {a, b, c, d};
    return vldrwq_s32(all);
}

static inline void dhn_mve_dots(const dhn_mve_dots_t *d, int32_t pixels)
{
    int32_t const channels = 8 / pixels;
    int32_t *acc = d->acc;
    for (int32_t n = 0; n < d->pairs; n++) {
        const int8_t *const x[2] = {d->x0 + n * d->step, d->x1 + n * d->step};
        const int8_t *w = d->w;
        for (int32_t tile = 0; tile < d->tiles; tile++, acc += 8) {
            memcpy(acc, w, 32);
            w += 32;
            for (int32_t i = 0; i < d->bytes * channels; i++, w++) {
                int32_t const c = i / 16 % channels;
                int32_t const k = i / 16 / channels * 16 + i % 16;
                for (int32_t pixel = 0; pixel < pixels; pixel++) {
                    acc[pixel * channels + c] += x[pixel][k] * *w;
                }
            }
        }
    }
}

static inline void dhn_mve_dots_two(const dhn_mve_dots_t *d)
{
    dhn_mve_dots(d, 2);
}

static inline void dhn_mve_dots_one(const dhn_mve_dots_t *d)
{
    dhn_mve_dots(d, 1);
}

static inline dhn_mve_dots_fn *dhn_mve_dots_2x4(int32_t blocks)
{
    (void)blocks;
    return dhn_mve_dots_two;
}

static inline dhn_mve_dots_fn *dhn_mve_dots_1x8(int32_t blocks)
{
    (void)blocks;
    return dhn_mve_dots_one;
}

#endif
#endif
