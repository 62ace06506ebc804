/* Brings the input of a few pixels into the int16 buffer that the register tiles read (tile.h). */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_GATHER_H
#define DHN_ARMV7EM_GATHER_H

#include "dsp.h"

/* Each takes `quads` > 0 times four values of runs that start at from[], and returns the next word of the buffer. Read side
 * by side, the runs of a group's pixels need one STM per four values. */

#if defined(__ARM_FEATURE_DSP)

/* 10 instructions for 12 values; all of four bytes, so that the loop can be entered inside. */
#define DHN_GATHER3_STEP                                                                                               \
    "ldr     r7, [%[f0]], #4\n\t"                                                                                      \
    "ldr     r8, [%[f1]], #4\n\t"                                                                                      \
    "ldr     r9, [%[f2]], #4\n\t"                                                                                      \
    "sxtb16  r4, r7\n\t"                                                                                               \
    "sxtb16  r5, r8\n\t"                                                                                               \
    "sxtb16  r6, r9\n\t"                                                                                               \
    "sxtb16  r7, r7, ror #8\n\t"                                                                                       \
    "sxtb16  r8, r8, ror #8\n\t"                                                                                       \
    "sxtb16  r9, r9, ror #8\n\t"                                                                                       \
    "stmia.w %[to]!, {r4-r9}\n\t"

DHN_CALLED uint32_t *dhn_gather3(uint32_t *to, const int8_t *const from[], int32_t quads)
{
    const int8_t *f0 = from[0], *f1 = from[1], *f2 = from[2];
    /* clang-format off */
    __asm__ volatile(
        "add     pc, %[entry]\n\t"
        "nop\n"
        "1:\n\t"
        DHN_GATHER3_STEP
        DHN_GATHER3_STEP
        DHN_GATHER3_STEP
        DHN_GATHER3_STEP
        "cmp     %[f0], %[end]\n\t"
        "bne     1b"
        : [to] "+r"(to), [f0] "+r"(f0), [f1] "+r"(f1), [f2] "+r"(f2)
        : [end] "r"(f0 + 4 * quads), [entry] "r"((0u - (uint32_t)quads) % 4u * 40u)
        : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    /* clang-format on */
    return to;
}

/* 7 instructions for 8 values. */
#define DHN_GATHER2_STEP                                                                                               \
    "ldr     r6, [%[f0]], #4\n\t"                                                                                      \
    "ldr     r7, [%[f1]], #4\n\t"                                                                                      \
    "sxtb16  r4, r6\n\t"                                                                                               \
    "sxtb16  r5, r7\n\t"                                                                                               \
    "sxtb16  r6, r6, ror #8\n\t"                                                                                       \
    "sxtb16  r7, r7, ror #8\n\t"                                                                                       \
    "stmia.w %[to]!, {r4-r7}\n\t"

DHN_CALLED uint32_t *dhn_gather2(uint32_t *to, const int8_t *const from[], int32_t quads)
{
    const int8_t *f0 = from[0], *f1 = from[1];
    /* clang-format off */
    __asm__ volatile(
        "add     pc, %[entry]\n\t"
        "nop\n"
        "1:\n\t"
        DHN_GATHER2_STEP
        DHN_GATHER2_STEP
        DHN_GATHER2_STEP
        DHN_GATHER2_STEP
        "cmp     %[f0], %[end]\n\t"
        "bne     1b"
        : [to] "+r"(to), [f0] "+r"(f0), [f1] "+r"(f1)
        : [end] "r"(f0 + 4 * quads), [entry] "r"((0u - (uint32_t)quads) % 4u * 28u)
        : "r4", "r5", "r6", "r7", "cc", "memory");
    /* clang-format on */
    return to;
}

#else

static inline uint32_t *dhn_gather_each(uint32_t *to, const int8_t *const from[], int32_t quads, int pixels)
{
    for (int32_t q = 0; q < quads; q++, to += 2 * pixels) {
        for (int i = 0; i < pixels; i++) {
            to[i] = dhn_sxtb16(dhn_load32(from[i] + 4 * q));
            to[pixels + i] = dhn_sxtb16_ror8(dhn_load32(from[i] + 4 * q));
        }
    }
    return to;
}

static inline uint32_t *dhn_gather3(uint32_t *to, const int8_t *const from[], int32_t quads)
{
    return dhn_gather_each(to, from, quads, 3);
}

static inline uint32_t *dhn_gather2(uint32_t *to, const int8_t *const from[], int32_t quads)
{
    return dhn_gather_each(to, from, quads, 2);
}

#endif

#endif
