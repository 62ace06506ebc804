/* What plain C kernels share: requantisation without divisions, and windows gathered into columns. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_SCALAR_H
#define DHN_SCALAR_H

#include <stdbool.h>
#include <string.h>

#include "dhn_kernels.h"

/* What stands in the innermost loops: GCC counts its size and would make calls of it, with its sums in memory. */
#define DHN_INNER static inline __attribute__((always_inline))

/* One output channel's requantisation, made by the host (layouts/scalar.py): multiplier m in [2^30, 2^31), right shift e
 * in 1..22. A channel that is always its zero point has bias and weights 0. */
typedef struct {
    int32_t bias;       /* input zero point folded in; the kernel pads with the zero point */
    int32_t multiplier; /* 2 * m - 2^32 */
    int32_t half;       /* 2^(e-1) + out_zp * 2^e */
    int32_t shift;      /* e */
} dhn_row_t;

/* (acc * m + 2^30) >> 31 with multiplier = 2 * m - 2^32: TFLite's doubled high product, rounded. |acc| < 2^29. */
static inline int32_t dhn_scale_high(int32_t acc, int32_t multiplier)
{
#if defined(__XTENSA__)
    /* The LX106 multiplies to 32 bits. acc = ah * 2^16 + al with al signed, m = mh * 2^16 + ml with ml unsigned. Below
     * 2^16 only al * ml has bits, and they cannot reach the sum's bit 31: floor them away. |al * mh| <= 2^30 and
     * |ah * ml| <= 2^29: their sum fits. */
    uint32_t const m = (uint32_t)multiplier >> 1; /* modulo 2^32 the multiplier is 2 * m */
    int32_t const mh = (int32_t)(m >> 16), ml = (int32_t)(m & 0xFFFFu);
    int32_t const al = (int16_t)acc, ah = (int32_t)((uint32_t)acc - (uint32_t)al) >> 16;
    int32_t const middle = al * mh + ah * ml + ((al * ml) >> 16) + (1 << 14);
    return ah * mh * 2 + (middle >> 15);
#else
    int64_t const product = (int64_t)acc * multiplier;
    return acc + (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
#endif
}

/* The right shift with halves away from zero, and the output's zero point. */
static inline int32_t dhn_scale(int32_t acc, int32_t multiplier, int32_t half, int32_t shift)
{
    int32_t const t = dhn_scale_high(acc, multiplier);
    return (t - (int32_t)((uint32_t)t >> 31) + half) >> (shift & 31);
}

/* A 64-bit sum in two registers. */
typedef struct {
    uint32_t low;
    int32_t high;
} dhn_wide_t;

static inline int64_t dhn_wide_value(dhn_wide_t s)
{
    return (int64_t)(((uint64_t)(uint32_t)s.high << 32) | s.low);
}

/* *sum += a * b. As an instruction of its own because GCC sums the steps of an unrolled loop apart and adds the sums, and
 * keeps pairs of registers together: it runs out of registers and spills. */
static inline void dhn_wide_mac(dhn_wide_t *sum, int32_t a, int32_t b)
{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB >= 2
    __asm("smlal %0, %1, %2, %3" : "+r"(sum->low), "+r"(sum->high) : "r"(a), "r"(b));
#else
    uint64_t const total = (uint64_t)(dhn_wide_value(*sum) + (int64_t)a * b);
    sum->low = (uint32_t)total;
    sum->high = (int32_t)(uint32_t)(total >> 32);
#endif
}

static inline int32_t dhn_to_int8(int32_t x)
{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB >= 2
    __asm("ssat %0, #8, %0" : "+r"(x));
    return x;
#else
    x = (x < -128) ? -128 : x;
    return (x > 127) ? 127 : x;
#endif
}

static inline int32_t dhn_limit(int32_t x, int32_t low, int32_t high)
{
    x = (x < low) ? low : x;
    return (x > high) ? high : x;
}

/* How results are written: limits, and the distance in bytes of a channel's neighbouring outputs. */
typedef struct {
    int32_t low, high, pitch;
} dhn_output_t;

static inline int8_t dhn_saturate(int32_t x)
{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB >= 2
    __asm("ssat %0, #8, %1" : "=r"(x) : "r"(x));
    return (int8_t)x;
#else
    return (int8_t)dhn_limit(x, INT8_MIN, INT8_MAX);
#endif
}

/* Four outputs of one channel. Not inline, so that the loops of sums around it and its constants do not compete for
 * registers. */
static __attribute__((noinline)) void dhn_finish_4(const dhn_output_t *o, const dhn_row_t *row, const int32_t acc[4],
                                                   int8_t *y)
{
    int32_t const multiplier = row->multiplier, half = row->half, shift = row->shift & 31, pitch = o->pitch;
    if (o->low == INT8_MIN && o->high == INT8_MAX) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < 4; i++, y += pitch) {
            *y = dhn_saturate(dhn_scale(acc[i], multiplier, half, shift));
        }
        return;
    }
    int32_t const low = o->low, high = o->high;
#pragma GCC unroll 4
    for (int32_t i = 0; i < 4; i++, y += pitch) {
        *y = (int8_t)dhn_limit(dhn_scale(acc[i], multiplier, half, shift), low, high);
    }
}

/* The first `count` of four. */
static inline void dhn_finish(const dhn_output_t *o, const dhn_row_t *row, const int32_t acc[4], int8_t *y,
                              int32_t count)
{
    if (count >= 4) {
        dhn_finish_4(o, row, acc, y);
        return;
    }
    for (int32_t i = 0; i < count; i++, y += o->pitch) {
        *y = (int8_t)dhn_limit(dhn_scale(acc[i], row->multiplier, row->half, row->shift), o->low, o->high);
    }
}

/* Stops GCC from summing the steps of an unrolled loop apart and adding the sums, for which registers do not suffice. */
DHN_INNER void dhn_keep(int32_t *sum)
{
    __asm("" : "+r"(*sum));
}

/* *sum += x * w, modulo 2^32. Two instructions that belong together: left alone, GCC moves sums from register to register. */
DHN_INNER void dhn_mac(int32_t *sum, int32_t x, int32_t w)
{
#if defined(__riscv) && defined(__riscv_mul)
    int32_t product;
    __asm("mul %1, %2, %3\n\tadd %0, %0, %1" : "+r"(*sum), "=&r"(product) : "r"(x), "r"(w));
#elif defined(__XTENSA__)
    int32_t product;
    __asm("mull %1, %2, %3\n\tadd %0, %0, %1" : "+r"(*sum), "=&r"(product) : "r"(x), "r"(w));
#else
    *sum = (int32_t)((uint32_t)*sum + (uint32_t)x * (uint32_t)w);
    dhn_keep(sum);
#endif
}

/* One input meets four channels, whose weights lie side by side. */
DHN_INNER void dhn_step_quads(int32_t x, const int8_t *w, int32_t s[4])
{
    dhn_mac(&s[0], x, w[0]);
    dhn_mac(&s[1], x, w[1]);
    dhn_mac(&s[2], x, w[2]);
    dhn_mac(&s[3], x, w[3]);
}

/* One output. */
DHN_INNER void dhn_put(const dhn_output_t *o, const dhn_row_t *row, int32_t acc, int8_t *to)
{
    *to = (int8_t)dhn_limit(dhn_scale(acc, row->multiplier, row->half, row->shift), o->low, o->high);
}

/* Both aligned to 4. */
static inline void dhn_copy_word(int8_t *to, const int8_t *from)
{
    memcpy(__builtin_assume_aligned(to, 4), __builtin_assume_aligned(from, 4), 4);
}

/* Copies words where both sides and the count allow it. GCC would make a call of a loop over bytes, which costs more than
 * the few bytes of a window's row; the empty statement stops it. */
static inline void dhn_copy_bytes(int8_t *to, const int8_t *from, int32_t count)
{
    if ((((uintptr_t)to | (uintptr_t)from) & 3u) == 0u) {
        for (; count >= 16; count -= 16, to += 16, from += 16) {
            memcpy(__builtin_assume_aligned(to, 4), __builtin_assume_aligned(from, 4), 16);
            __asm volatile("");
        }
        for (; count >= 4; count -= 4, to += 4, from += 4) {
            dhn_copy_word(to, from);
            __asm volatile("");
        }
    }
    for (; count > 0; count--) {
        *to++ = *from++;
        __asm volatile("");
    }
}

static inline void dhn_fill_bytes(int8_t *to, int8_t value, int32_t count)
{
    uint32_t const word = (uint8_t)value * 0x01010101u;
    for (; count >= 4 && ((uintptr_t)to & 3u) == 0u; count -= 4, to += 4) {
        memcpy(__builtin_assume_aligned(to, 4), &word, 4);
        __asm volatile("");
    }
    for (; count > 0; count--) {
        *to++ = value;
        __asm volatile("");
    }
}

/* A place in the output, walked row by row. */
typedef struct {
    int32_t y, x;
} dhn_place_t;

static inline void dhn_advance(const dhn_conv_t *p, dhn_place_t *at, int32_t pixels)
{
    for (at->x += pixels; at->x >= p->out_w; at->x -= p->out_w) {
        at->y++;
    }
}

/* Whether the windows of `count` pixels from `at` on lie inside the image, in one row of the output. Needs dilation_w = 1. */
static inline bool dhn_inside(const dhn_conv_t *p, dhn_place_t at, int32_t count)
{
    int32_t const top = at.y * p->stride_h - p->pad_t, left = at.x * p->stride_w - p->pad_l;
    return at.x + count <= p->out_w && top >= 0 && left >= 0 && top + (p->kh - 1) * p->dilation_h < p->in_h &&
           left + (count - 1) * p->stride_w + p->kw <= p->in_w;
}

/* First value of the window of `at`, which must start inside the image. */
static inline const int8_t *dhn_corner(const dhn_conv_t *p, const int8_t *in, dhn_place_t at)
{
    int32_t const top = at.y * p->stride_h - p->pad_t, left = at.x * p->stride_w - p->pad_l;
    return in + (top * p->in_w + left) * p->in_c;
}

/* The window of output pixel `at`: kh * kw * in_c values in the order of the weights, those outside the image as the zero
 * point. Needs dilation_w = 1 and groups = 1. */
static inline void dhn_gather(const dhn_conv_t *p, const int8_t *in, dhn_place_t at, int8_t *to)
{
    int32_t const c = p->in_c, kw = p->kw, run = kw * c;
    int32_t const x = at.x * p->stride_w - p->pad_l;
    int32_t const room = p->in_w - x;
    int32_t const left = (x < 0) ? ((-x < kw) ? -x : kw) : 0;
    int32_t const end = (room < kw) ? ((room > left) ? room : left) : kw;
    int32_t row = at.y * p->stride_h - p->pad_t;
    for (int32_t ky = p->kh; ky > 0; ky--, row += p->dilation_h, to += run) {
        if (row < 0 || row >= p->in_h) {
            dhn_fill_bytes(to, (int8_t)p->in_zp, run);
            continue;
        }
        dhn_fill_bytes(to, (int8_t)p->in_zp, left * c);
        dhn_copy_bytes(to + left * c, in + (row * p->in_w + x + left) * c, (end - left) * c);
        dhn_fill_bytes(to + end * c, (int8_t)p->in_zp, run - end * c);
    }
}

/* The windows of four pixels from `at` on, which it moves behind: gathered to `to`, `pitch` bytes apart. Only `pixels` of them
 * exist; those that are missing repeat the first. */
static inline void dhn_gather_4(const dhn_conv_t *p, const int8_t *in, dhn_place_t *at, int32_t pixels, int8_t *to,
                                int32_t pitch, const int8_t *from[4])
{
    for (int32_t i = 0; i < 4; i++) {
        from[i] = (i < pixels) ? to + i * pitch : to;
        if (i < pixels) {
            dhn_gather(p, in, *at, to + i * pitch);
            dhn_advance(p, at, 1);
        }
    }
}

/* The same for kernels of 1x1 without padding: where the pixels lie. */
static inline void dhn_corners_4(const dhn_conv_t *p, const int8_t *in, dhn_place_t *at, int32_t pixels,
                                 const int8_t *from[4])
{
    const int8_t *const first = dhn_corner(p, in, *at);
    for (int32_t i = 0; i < 4; i++) {
        from[i] = (i < pixels) ? dhn_corner(p, in, *at) : first;
        dhn_advance(p, at, 1);
    }
}

#endif
