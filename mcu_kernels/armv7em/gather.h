/* Brings the input under a convolution's window into the int16 buffer that the register tiles read (tile.h). */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_GATHER_H
#define DHN_ARMV7EM_GATHER_H

#include "dhn_kernels.h"
#include "dsp.h"

/* The windows of a group's pixels are read side by side, so that one STM writes what a step of the tile reads. */

#if defined(__ARM_FEATURE_DSP)

/* Four values of each of three pixels: 10 instructions. */
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

/* `quads` > 0 times four values of three runs. The loop is entered inside; LDR.W makes every instruction four bytes. */
static __attribute__((noinline)) uint32_t *dhn_gather3(uint32_t *to, const int8_t *f0, const int8_t *f1,
                                                       const int8_t *f2, int32_t quads)
{
    const int8_t *const end = f0 + 4 * quads;
    uint32_t const entry = ((uint32_t)-quads & 3u) * (10u * 4u);
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
        : [end] "r"(end), [entry] "r"(entry)
        : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    /* clang-format on */
    return to;
}

#else

static inline uint32_t *dhn_gather3(uint32_t *to, const int8_t *f0, const int8_t *f1, const int8_t *f2, int32_t quads)
{
    const int8_t *const from[3] = {f0, f1, f2};
    for (int32_t q = 0; q < quads; q++, to += 6) {
        for (int i = 0; i < 3; i++) {
            to[i] = dhn_sxtb16(dhn_load32(from[i] + 4 * q));
            to[3 + i] = dhn_sxtb16_ror8(dhn_load32(from[i] + 4 * q));
        }
    }
    return to;
}

#endif

/* The first tap of one output's window, which may lie outside the image. */
typedef struct {
    int32_t y, x;
} dhn_window_t;

static inline dhn_window_t dhn_window_first(const dhn_conv_t *p)
{
    dhn_window_t const w = {-(int32_t)p->pad_t, -(int32_t)p->pad_l};
    return w;
}

static inline dhn_window_t dhn_window_next(const dhn_conv_t *p, dhn_window_t w)
{
    w.x += p->stride_w;
    if (w.x == p->out_w * p->stride_w - p->pad_l) {
        w.x = -(int32_t)p->pad_l;
        w.y += p->stride_h;
    }
    return w;
}

/* Whether the windows of `count` outputs from `w` on lie in one row, and inside the image. */
static inline int dhn_windows_inside(const dhn_conv_t *p, dhn_window_t w, int32_t count)
{
    int32_t const last = w.x + (count - 1) * p->stride_w;
    return w.x >= 0 && w.y >= 0 && last + p->kw <= p->in_w && last < p->out_w * p->stride_w - p->pad_l &&
           w.y + (p->kh - 1) * p->dilation_h < p->in_h;
}

/* A tap's channels, or `zeros` where it lies outside the image. */
static inline const int8_t *dhn_tap(const dhn_conv_t *p, const int8_t *in, int32_t y, int32_t x, const int8_t *zeros)
{
    int const inside = (uint32_t)y < p->in_h && (uint32_t)x < p->in_w;
    return inside ? in + (y * p->in_w + x) * p->in_c : zeros;
}

#endif
