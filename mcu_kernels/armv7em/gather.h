/* Brings the input under a convolution's window into the int16 buffer that the register tiles read (tile.h). */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_GATHER_H
#define DHN_ARMV7EM_GATHER_H

#include "dhn_kernels.h"
#include "dsp.h"

/* `pixels`, the group's size, is a constant wherever these are inlined; `to` is a pixel's next word in the buffer. */

static inline uint32_t *dhn_gather_quad(uint32_t *to, uint32_t quad, int32_t pixels)
{
    to[0] = dhn_sxtb16(quad);
    to[pixels] = dhn_sxtb16_ror8(quad);
    return to + 2 * pixels;
}

/* count values, a multiple of 4, sign-extended. */
static inline uint32_t *dhn_gather_copy(uint32_t *to, const int8_t *from, int32_t count, int32_t pixels)
{
    for (; count >= 16; count -= 16, from += 16) { /* 1.4 instructions per value; one quad at a time takes 2 */
        to = dhn_gather_quad(to, dhn_load32(from), pixels);
        to = dhn_gather_quad(to, dhn_load32(from + 4), pixels);
        to = dhn_gather_quad(to, dhn_load32(from + 8), pixels);
        to = dhn_gather_quad(to, dhn_load32(from + 12), pixels);
    }
    for (; count > 0; count -= 4, from += 4) {
        to = dhn_gather_quad(to, dhn_load32(from), pixels);
    }
    return to;
}

static inline uint32_t *dhn_gather_fill(uint32_t *to, uint32_t pair, int32_t count, int32_t pixels)
{
    for (; count > 0; count -= 4, to += 2 * pixels) {
        to[0] = to[pixels] = pair;
    }
    return to;
}

/* The window of one output: y and x of its first tap, which may lie outside the image. */
typedef struct {
    int32_t y, x;
} dhn_window_t;

static inline dhn_window_t dhn_window_first(const dhn_conv_t *p)
{
    dhn_window_t const w = {-(int32_t)p->pad_t, -(int32_t)p->pad_l};
    return w;
}

static inline void dhn_window_next(const dhn_conv_t *p, dhn_window_t *w)
{
    w->x += p->stride_w;
    if (w->x == p->out_w * p->stride_w - p->pad_l) {
        w->x = -(int32_t)p->pad_l;
        w->y += p->stride_h;
    }
}

static inline int dhn_window_inside(const dhn_conv_t *p, const dhn_window_t *w)
{
    return w->x >= 0 && w->y >= 0 && w->x + p->kw <= p->in_w && w->y + (p->kh - 1) * p->dilation_h < p->in_h;
}

/* How many taps of one row lie left and right of the image; all of them lie left when the row is outside. */
typedef struct {
    int32_t left, right;
} dhn_margin_t;

static inline dhn_margin_t dhn_margin(const dhn_conv_t *p, int32_t y, int32_t x)
{
    int32_t const taps = p->kw;
    dhn_margin_t m = {(x < 0) ? -x : 0, (x + taps > p->in_w) ? x + taps - p->in_w : 0};
    if (y < 0 || y >= p->in_h || m.left >= taps || m.right >= taps) {
        m.left = taps;
        m.right = 0;
    }
    return m;
}

/* A window of taps whose channel count is a multiple of 4, with the zero point where it reaches over the image. */
static inline void dhn_gather_window(uint32_t *to, const dhn_conv_t *p, const int8_t *in, const dhn_window_t *w,
                                     int32_t pixels)
{
    int32_t const line = p->in_w * p->in_c * p->dilation_h;
    const int8_t *from = in + (w->y * p->in_w + w->x) * p->in_c;
    if (dhn_window_inside(p, w)) {
        int32_t const row = p->kw * p->in_c;
        for (int32_t ky = p->kh; ky > 0; ky--, from += line) {
            to = dhn_gather_copy(to, from, row, pixels);
        }
        return;
    }
    uint32_t const zero = dhn_lanes(p->in_zp, p->in_zp);
    for (int32_t ky = 0; ky < p->kh; ky++, from += line) {
        dhn_margin_t const m = dhn_margin(p, w->y + ky * p->dilation_h, w->x);
        to = dhn_gather_fill(to, zero, m.left * p->in_c, pixels);
        to = dhn_gather_copy(to, from + m.left * p->in_c, (p->kw - m.left - m.right) * p->in_c, pixels);
        to = dhn_gather_fill(to, zero, m.right * p->in_c, pixels);
    }
}

/* The same for any channel count. A row's quads come first, then the bytes that are left of each row, in pairs. `spare`
 * holds one row of bytes. */
static inline const int8_t *dhn_gather_bytes(int8_t *spare, const dhn_conv_t *p, const int8_t *from, dhn_margin_t m)
{
    int32_t const row = p->kw * p->in_c;
    int32_t const left = m.left * p->in_c, right = row - m.right * p->in_c;
    for (int32_t i = 0; i < row; i++) {
        spare[i] = (int8_t)((i >= left && i < right) ? from[i] : p->in_zp);
    }
    return spare;
}

static inline void dhn_gather_rows(uint32_t *to, const dhn_conv_t *p, const int8_t *in, const dhn_window_t *w,
                                   int8_t *spare, int32_t pixels)
{
    int32_t const line = p->in_w * p->in_c * p->dilation_h;
    int32_t const row = p->kw * p->in_c, quads = row & ~3;
    const int8_t *from = in + (w->y * p->in_w + w->x) * p->in_c;
    int const inside = dhn_window_inside(p, w);
    uint16_t *rest = (void *)(to + p->kh * (quads / 4) * 2 * pixels); /* lane 0, then lane 1 of a word */
    int32_t next = 1;
    for (int32_t ky = 0; ky < p->kh; ky++, from += line) {
        const int8_t *bytes = from;
        if (!inside) {
            bytes = dhn_gather_bytes(spare, p, from, dhn_margin(p, w->y + ky * p->dilation_h, w->x));
        }
        for (int32_t i = 0; i < quads; i += 4) {
            to = dhn_gather_quad(to, dhn_load32(bytes + i), pixels);
        }
        for (int32_t i = quads; i < row; i++) {
            *rest = (uint16_t)bytes[i];
            rest += next;
            next = 2 * pixels - next;
        }
    }
}

#endif
