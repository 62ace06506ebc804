/* The vector instructions of Armv8.1-M (Helium) that the kernels here use, with their meaning in C for the host twin. */
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

/* The two loops below are where a network's time goes. VMLADAVA adds sixteen products of int8 to a core register, which
 * must be an even one, so there are eight accumulators at most, LR among them. They leave the compiler no register to
 * hold a loop in, hence assembly. LDM and STM fill and empty all eight with one instruction. */
#if defined(__ARM_FEATURE_MVE)

#define DHN_MVE_ACCS "{r0, r2, r4, r6, r8, r10, r12, lr}"
#define DHN_MVE_CLOBBERS                                                                                               \
    "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "s28", "s29", "cc", "memory"

/* Sixteen values of two pixels meet those of four channels: 14 instructions for 128 products. */
#define DHN_MVE_STEP_2X4                                                                                               \
    "vldrb.8 q0, [%[x0]], #16\n"                                                                                       \
    "vldrb.8 q2, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r0, q0, q2\n"                                                                                         \
    "vldrb.8 q1, [%[x1]], #16\n"                                                                                       \
    "vmladava.s8 r8, q1, q2\n"                                                                                         \
    "vldrb.8 q3, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r2, q0, q3\n"                                                                                         \
    "vldrb.8 q2, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r10, q1, q3\n"                                                                                        \
    "vldrb.8 q3, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r4, q0, q2\n"                                                                                         \
    "vmladava.s8 r12, q1, q2\n"                                                                                        \
    "vmladava.s8 r6, q0, q3\n"                                                                                         \
    "vmladava.s8 lr, q1, q3\n"

/* Sixteen values of one pixel meet those of eight channels: 17 instructions for 128 products. */
#define DHN_MVE_STEP_1X8                                                                                               \
    "vldrb.8 q0, [%[x0]], #16\n"                                                                                       \
    "vldrb.8 q1, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r0, q0, q1\n"                                                                                         \
    "vldrb.8 q2, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r2, q0, q2\n"                                                                                         \
    "vldrb.8 q1, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r4, q0, q1\n"                                                                                         \
    "vldrb.8 q2, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r6, q0, q2\n"                                                                                         \
    "vldrb.8 q1, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r8, q0, q1\n"                                                                                         \
    "vldrb.8 q2, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r10, q0, q2\n"                                                                                        \
    "vldrb.8 q1, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 r12, q0, q1\n"                                                                                        \
    "vldrb.8 q2, [%[w]], #16\n"                                                                                        \
    "vmladava.s8 lr, q0, q2\n"

/* For every tile of weights: eight sums. The pixels' start waits in s28 and s29. `steps`: unrolled. */
#define DHN_MVE_TILES(keep, reset, steps)                                                                              \
    __asm__ volatile(keep "1:\n"                                                                                       \
                          "ldmia %[w]!, " DHN_MVE_ACCS "\n"                                                            \
                          "2:\n" steps "cmp %[x0], %[end]\n"                                                           \
                          "bne 2b\n"                                                                                   \
                          "stmia %[acc]!, " DHN_MVE_ACCS "\n" reset "subs %[tiles], #1\n"                              \
                          "bne 1b\n"                                                                                   \
                     : [x0] "+r"(x0), [x1] "+r"(x1), [w] "+r"(w), [acc] "+r"(acc), [tiles] "+r"(tiles)                 \
                     : [end] "r"(end)                                                                                  \
                     : DHN_MVE_CLOBBERS)
#define DHN_MVE_KEEP_2 "vmov s28, s29, %[x0], %[x1]\n"
#define DHN_MVE_RESET_2 "vmov %[x0], %[x1], s28, s29\n"
#define DHN_MVE_KEEP_1 "vmov s28, %[x0]\n"
#define DHN_MVE_RESET_1 "vmov %[x0], s28\n"

static inline void dhn_mve_dots_2x4(const int8_t *x0, const int8_t *x1, const int8_t *w, int32_t blocks, int32_t tiles,
                                    int32_t *acc)
{
    const int8_t *const end = x0 + 16 * blocks;
    if (blocks % 3 == 0) {
        DHN_MVE_TILES(DHN_MVE_KEEP_2, DHN_MVE_RESET_2, DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4);
    } else if (blocks % 4 == 0) {
        DHN_MVE_TILES(DHN_MVE_KEEP_2, DHN_MVE_RESET_2,
                      DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4);
    } else if (blocks % 2 == 0) {
        DHN_MVE_TILES(DHN_MVE_KEEP_2, DHN_MVE_RESET_2, DHN_MVE_STEP_2X4 DHN_MVE_STEP_2X4);
    } else {
        DHN_MVE_TILES(DHN_MVE_KEEP_2, DHN_MVE_RESET_2, DHN_MVE_STEP_2X4);
    }
}

static inline void dhn_mve_dots_1x8(const int8_t *x0, const int8_t *w, int32_t blocks, int32_t tiles, int32_t *acc)
{
    const int8_t *const end = x0 + 16 * blocks;
    const int8_t *x1 = x0;
    if (blocks % 4 == 0) {
        DHN_MVE_TILES(DHN_MVE_KEEP_1, DHN_MVE_RESET_1,
                      DHN_MVE_STEP_1X8 DHN_MVE_STEP_1X8 DHN_MVE_STEP_1X8 DHN_MVE_STEP_1X8);
    } else {
        DHN_MVE_TILES(DHN_MVE_KEEP_1, DHN_MVE_RESET_1, DHN_MVE_STEP_1X8);
    }
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

/* Saturated to the even lanes; nobody reads the odd ones. The intrinsics want these from somewhere, which costs a copy. */
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

static inline void dhn_mve_dots(const int8_t *const x[2], int32_t pixels, const int8_t *w, int32_t blocks,
                                int32_t tiles, int32_t *acc)
{
    int32_t const channels = 8 / pixels;
    for (; tiles > 0; tiles--, acc += 8) {
        memcpy(acc, w, 32);
        w += 32;
        for (int32_t k = 0; k < 16 * blocks; k += 16) {
            for (int32_t c = 0; c < channels; c++, w += 16) {
                for (int32_t i = 0; i < 16 * pixels; i++) {
                    acc[i / 16 * channels + c] += x[i / 16][k + i % 16] * w[i % 16];
                }
            }
        }
    }
}

static inline void dhn_mve_dots_2x4(const int8_t *x0, const int8_t *x1, const int8_t *w, int32_t blocks, int32_t tiles,
                                    int32_t *acc)
{
    const int8_t *const x[2] = {x0, x1};
    dhn_mve_dots(x, 2, w, blocks, tiles, acc);
}

static inline void dhn_mve_dots_1x8(const int8_t *x0, const int8_t *w, int32_t blocks, int32_t tiles, int32_t *acc)
{
    const int8_t *const x[2] = {x0, x0};
    dhn_mve_dots(x, 1, w, blocks, tiles, acc);
}

#endif
#endif
