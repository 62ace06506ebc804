/* Walks a convolution's output in groups of pixels, whose windows are gathered and multiplied by a register tile. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_CONV_WALK_H
#define DHN_ARMV7EM_CONV_WALK_H

#include <string.h>

#include "dhn_kernels.h"
#include "gather.h"
#include "tile.h"

enum { DHN_WALK_PIXELS = 3 }; /* at most */

/* A register tile. The walks below are inlined with a constant one, so that its fields cost nothing. */
typedef struct {
    int32_t pixels;
    int32_t quads; /* that a step takes; behind the last one, weights are zero */
    uint32_t *(*gather)(uint32_t *to, const int8_t *const from[], int32_t quads);
    void (*group)(const dhn_group_t *g, int8_t *out, int32_t count);
} dhn_tile_t;

#define DHN_INLINE static inline __attribute__((always_inline))

DHN_INLINE dhn_group_t dhn_walk_group(const dhn_tile_t *t, const dhn_conv_t *p, const dhn_io_t *io, int32_t quads)
{
    dhn_group_t g;
    g.steps = (uint32_t)((quads + t->quads - 1) / t->quads);
    g.x = io->scratch;
    g.x_end = g.x + (int32_t)g.steps * t->quads * 4 * t->pixels;
    g.weight = (const int8_t *)(io->consts + p->weight);
    g.pair = (const void *)(io->consts + p->bias);
    g.pair_end = g.pair + p->out_c / 2;
    g.out_c = p->out_c;
    g.out_zp = p->out_zp;
    g.act_min = p->act_min;
    g.act_max = p->act_max;
    return g;
}

/* The first tap of one output's window, which may lie outside the image. */
typedef struct {
    int32_t y, x;
} dhn_window_t;

/* Where windows are: x starts again, one stride further down, `width` before `end`. A group whose first window has x and y
 * in 0 to `inside_x` and `inside_y` lies in one row and inside the image. */
typedef struct {
    int32_t end, width, inside_x, inside_y;
} dhn_bounds_t;

DHN_INLINE dhn_bounds_t dhn_window_bounds(const dhn_conv_t *p, int32_t pixels)
{
    dhn_bounds_t b;
    b.width = p->out_w * p->stride_w;
    b.end = b.width - p->pad_l;
    int32_t const last = b.end - p->stride_w;
    b.inside_x = ((last < p->in_w - p->kw) ? last : p->in_w - p->kw) - (pixels - 1) * p->stride_w;
    b.inside_y = p->in_h - 1 - (p->kh - 1) * p->dilation_h;
    return b;
}

DHN_INLINE dhn_window_t dhn_window_first(const dhn_conv_t *p)
{
    dhn_window_t const w = {-(int32_t)p->pad_t, -(int32_t)p->pad_l};
    return w;
}

/* Behind the last output it may be anywhere: outside the image it reads the zero point. */
DHN_INLINE dhn_window_t dhn_window_ahead(const dhn_conv_t *p, const dhn_bounds_t *b, dhn_window_t w, int32_t pixels)
{
    w.x += pixels * p->stride_w;
    while (w.x >= b->end) {
        w.x -= b->width;
        w.y += p->stride_h;
    }
    return w;
}

DHN_INLINE int dhn_group_inside(const dhn_bounds_t *b, dhn_window_t w)
{
    return w.x >= 0 && w.x <= b->inside_x && w.y >= 0 && w.y <= b->inside_y;
}

DHN_INLINE void dhn_gather_inside(const dhn_tile_t *t, const dhn_conv_t *p, const int8_t *in, dhn_window_t w,
                                  uint32_t *to)
{
    int32_t const line = p->in_w * p->in_c * p->dilation_h, step = p->stride_w * p->in_c;
    int32_t const quads = p->kw * p->in_c / 4;
    const int8_t *from[DHN_WALK_PIXELS] = {in + (w.y * p->in_w + w.x) * p->in_c};
    for (int32_t ky = p->kh; ky > 0; ky--) {
#pragma GCC unroll 3
        for (int32_t i = 1; i < t->pixels; i++) {
            from[i] = from[i - 1] + step;
        }
        to = t->gather(to, from, quads);
        from[0] += line;
    }
}

/* A tap's channels, or `zeros` where it lies outside the image. */
DHN_INLINE const int8_t *dhn_tap(const dhn_conv_t *p, const int8_t *in, int32_t y, int32_t x, const int8_t *zeros)
{
    int const inside = (uint32_t)y < p->in_h && (uint32_t)x < p->in_w;
    return inside ? in + (y * p->in_w + x) * p->in_c : zeros;
}

DHN_INLINE void dhn_gather_taps(const dhn_tile_t *t, const dhn_conv_t *p, const int8_t *in, const dhn_bounds_t *b,
                                dhn_window_t first, uint32_t *to, const int8_t *zeros)
{
    const int8_t *from[DHN_WALK_PIXELS];
    dhn_window_t w[DHN_WALK_PIXELS] = {first};
#pragma GCC unroll 3
    for (int32_t i = 1; i < t->pixels; i++) {
        w[i] = dhn_window_ahead(p, b, w[i - 1], 1);
    }
    for (int32_t ky = 0; ky < p->kh * p->dilation_h; ky += p->dilation_h) {
        for (int32_t kx = 0; kx < p->kw * p->dilation_w; kx += p->dilation_w) {
#pragma GCC unroll 3
            for (int32_t i = 0; i < t->pixels; i++) {
                from[i] = dhn_tap(p, in, w[i].y + ky, w[i].x + kx, zeros);
            }
            to = t->gather(to, from, p->in_c / 4);
        }
    }
}

/* Access order of all three walks, for kernels.toml's `lead`: a group's windows are read before its outputs are written.
 * When the outputs before (y, x) are written, (y * out_w + x) * out_c bytes are; the first byte of the input that is still
 * needed belongs to the window of (y, x), or of (y + 1, 0) while both reach over the upper edge, and lies no lower than
 * ((y * stride_h - pad_t) * in_w + x * stride_w - pad_l) * in_c. Both are linear in y and in x: the output leads the input
 * by no more than the sum of what each row, each column and the padding contribute. */

/* in_c a multiple of 4. Scratch: the buffer, then a pixel of zero points. */
DHN_INLINE void dhn_walk_taps(const dhn_tile_t *t, const void *params, const dhn_io_t *io)
{
    dhn_conv_t const copy = *(const dhn_conv_t *)params, *const p = &copy;
    int32_t const depth = p->kh * p->kw * p->in_c;
    dhn_group_t const g = dhn_walk_group(t, p, io, depth / 4);
    int8_t *const zeros = (int8_t *)io->scratch + 2 * (g.x_end - g.x);
    memset(zeros, p->in_zp, p->in_c);
    int8_t *out = io->out;
    dhn_bounds_t bounds = dhn_window_bounds(p, t->pixels);
    if (p->dilation_w > 1u) {
        bounds.inside_x = -1; /* a row of taps is no run of bytes */
    }
    dhn_window_t w = dhn_window_first(p);
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= t->pixels) {
        if (dhn_group_inside(&bounds, w)) {
            dhn_gather_inside(t, p, io->in0, w, io->scratch);
        } else {
            dhn_gather_taps(t, p, io->in0, &bounds, w, io->scratch, zeros);
        }
        w = dhn_window_ahead(p, &bounds, w, t->pixels);
        t->group(&g, out, left);
        out += t->pixels * p->out_c;
    }
}

/* The taps of one window, with the zero point where it reaches over the image. */
static inline void dhn_gather_bytes(const dhn_conv_t *p, const int8_t *in, dhn_window_t w, int8_t *to, int32_t quads)
{
    uint32_t const zeros = (uint32_t)(p->in_zp & 0xFF) * 0x01010101u;
    for (int32_t i = 0; i < quads; i++) {
        dhn_store32(to + 4 * i, zeros);
    }
    int32_t const first = (w.x < 0) ? 0 : w.x, behind = (w.x + p->kw < p->in_w) ? w.x + p->kw : p->in_w;
    int32_t const run = (behind - first) * p->in_c;
    to += (first - w.x) * p->in_c;
    for (int32_t ky = p->kh; ky > 0; ky--, w.y += p->dilation_h, to += p->kw * p->in_c) {
        if ((uint32_t)w.y < p->in_h) {
            const int8_t *const from = in + (w.y * p->in_w + first) * p->in_c;
            int32_t i = 0;
            for (; i < run - 3; i += 4) {
                dhn_store32(to + i, dhn_load32(from + i));
            }
            for (; i < run; i++) {
                to[i] = from[i];
            }
        }
    }
}

/* The same for a group whose windows all lie in one row and inside the image, with rows of at least four bytes. */
DHN_INLINE void dhn_gather_bytes_inside(const dhn_tile_t *t, const dhn_conv_t *p, const int8_t *in, dhn_window_t w,
                                        int8_t *const bytes[])
{
    int32_t const row = p->kw * p->in_c, line = p->in_w * p->in_c, step = p->stride_w * p->in_c;
    const int8_t *from = in + w.y * line + w.x * p->in_c;
    int32_t at = 0;
    for (int32_t ky = p->kh; ky > 0; ky--, from += line * p->dilation_h) {
        int32_t const last = at + row - 4;
        const int8_t *f = from;
        for (; at < last; at += 4, f += 4) {
#pragma GCC unroll 3
            for (int32_t i = 0; i < t->pixels; i++) {
                dhn_store32(bytes[i] + at, dhn_load32(f + i * step));
            }
        }
        f = from + row - 4;
#pragma GCC unroll 3
        for (int32_t i = 0; i < t->pixels; i++) {
            dhn_store32(bytes[i] + last, dhn_load32(f + i * step));
        }
        at = last + 4;
    }
}

/* Any in_c. Scratch: the buffer, then each pixel's window in bytes. */
DHN_INLINE void dhn_walk_bytes(const dhn_tile_t *t, const void *params, const dhn_io_t *io)
{
    dhn_conv_t const copy = *(const dhn_conv_t *)params, *const p = &copy;
    int32_t const quads = (p->kh * p->kw * p->in_c + 3) / 4;
    dhn_group_t const g = dhn_walk_group(t, p, io, quads);
    int8_t *bytes[DHN_WALK_PIXELS] = {(int8_t *)io->scratch + 2 * (g.x_end - g.x)};
    for (int32_t i = 1; i < t->pixels; i++) {
        bytes[i] = bytes[i - 1] + 4 * quads;
    }
    int8_t *out = io->out;
    dhn_bounds_t const bounds = dhn_window_bounds(p, t->pixels);
    int const wide = p->kw * p->in_c >= 4;
    dhn_window_t w = dhn_window_first(p);
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= t->pixels) {
        int const inside = wide && dhn_group_inside(&bounds, w);
        int32_t const together = inside ? t->pixels : 1;
        for (int32_t i = 0; i < t->pixels; i += together, w = dhn_window_ahead(p, &bounds, w, together)) {
            if (inside) {
                dhn_gather_bytes_inside(t, p, io->in0, w, bytes);
            } else {
                dhn_gather_bytes(p, io->in0, w, bytes[i], quads);
            }
        }
        t->gather(io->scratch, (const int8_t *const *)bytes, quads);
        t->group(&g, out, left);
        out += t->pixels * p->out_c;
    }
}

typedef struct {
    const int8_t *from;
    int32_t columns; /* left in this row */
} dhn_pixel_t;

DHN_INLINE const int8_t *dhn_next_pixel(dhn_pixel_t *at, const dhn_conv_t *p)
{
    const int8_t *const from = at->from;
    at->from += p->stride_w * p->in_c;
    if (--at->columns == 0) {
        at->columns = p->out_w;
        at->from += (p->stride_h * p->in_w - p->out_w * p->stride_w) * p->in_c;
    }
    return from;
}

/* 1x1 without padding, in_c a multiple of 4. Scratch: the buffer. */
DHN_INLINE void dhn_walk_pixels(const dhn_tile_t *t, const void *params, const dhn_io_t *io)
{
    dhn_conv_t const copy = *(const dhn_conv_t *)params, *const p = &copy;
    dhn_group_t const g = dhn_walk_group(t, p, io, p->in_c / 4);
    dhn_pixel_t at = {io->in0, p->out_w};
    const int8_t *from[DHN_WALK_PIXELS];
    int8_t *out = io->out;
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= t->pixels) {
        from[0] = dhn_next_pixel(&at, p);
#pragma GCC unroll 3
        for (int32_t i = 1; i < t->pixels; i++) {
            from[i] = (left > i) ? dhn_next_pixel(&at, p) : from[0];
        }
        t->gather(io->scratch, from, p->in_c / 4);
        t->group(&g, out, left);
        out += t->pixels * p->out_c;
    }
}

#endif
