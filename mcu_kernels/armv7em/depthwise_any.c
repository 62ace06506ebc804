/* Depthwise convolution of any filter, stride and channel multiplier: one channel at a time as an int16 plane. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "depthwise_any_tile.h"
#include "dhn_kernels.h"
#include "dhn_requantize.h"

/* Scratch: one input channel, padded with the zero point, as lines of int16. Lines run along the longer side of the filter,
 * whose rows are words of two weights, ending in a zero if their number is odd.
 *
 * In place, where input and output have the same size: a channel's plane is complete before its output is written, and
 * that overwrites no other channel. */

enum { TILE = DHN_DEPTHWISE_ANY_TILE };

/* The image as lines of positions, whichever of the two is the height. */
typedef struct {
    int32_t lines, positions; /* of the input */
    int32_t line_step, step;  /* bytes from one line, one position, to the next */
    int32_t pad_line, pad;
    int32_t stride_line, stride;
    int32_t out_lines, out_positions;
    int32_t out_line_step, out_step;
    int32_t rows, words; /* of the filter: a row of words of two weights */
    int32_t pitch;       /* positions of a line in scratch */
} view_t;

static void derive(view_t *v)
{
    int32_t const outputs = (v->out_positions + TILE - 1) / TILE * TILE;
    v->pitch = ((outputs - 1) * v->stride + 2 * v->words + 1) / 2 * 2;
}

static view_t along_width(const dhn_conv_t *p)
{
    view_t v = {p->in_h,
                p->in_w,
                p->in_w * p->in_c,
                p->in_c,
                p->pad_t,
                p->pad_l,
                p->stride_h,
                p->stride_w,
                p->out_h,
                p->out_w,
                p->out_w * p->out_c,
                p->out_c,
                p->kh,
                (p->kw + 1) / 2,
                0};
    derive(&v);
    return v;
}

static view_t along_height(const dhn_conv_t *p)
{
    view_t v = {p->in_w,     p->in_h,         p->in_c,  p->in_w * p->in_c, p->pad_l, p->pad_t,
                p->stride_w, p->stride_h,     p->out_w, p->out_h,          p->out_c, p->out_w * p->out_c,
                p->kw,       (p->kh + 1) / 2, 0};
    derive(&v);
    return v;
}

static inline int32_t lower(int32_t a, int32_t b)
{
    return (a < b) ? a : b;
}

static int32_t plane_lines(const view_t *v)
{
    return (v->out_lines - 1) * v->stride_line + v->rows;
}

/* The padding stays from channel to channel. */
static void fill(const view_t *v, int16_t *plane, int32_t zp)
{
    uint32_t const pair = dhn_lanes(zp, zp);
    for (int32_t i = 0; i < plane_lines(v) * v->pitch; i += 2) {
        dhn_store32(plane + i, pair);
    }
}

static void load_plane(const view_t *v, const int8_t *in, int16_t *plane)
{
    int32_t const first = lower(v->pad, v->pitch);
    int32_t const n = lower(v->positions, v->pitch - first);
    int32_t const lines = lower(v->lines, plane_lines(v) - v->pad_line);
    int16_t *to = plane + v->pad_line * v->pitch + first;
    for (int32_t y = 0; y < lines; y++, in += v->line_step, to += v->pitch) {
        const int8_t *x = in;
#pragma GCC unroll 4
        for (int32_t i = 0; i < n; i++, x += v->step) {
            to[i] = *x;
        }
    }
}

/* One channel's constants; round = 0 where the fused arithmetic does not cover the multiplier, which is `scale` then. */
typedef struct {
    dhn_fused_t fused;
    int32_t shift, out_zp;
    const uint32_t *w;
} channel_t;

DHN_RARE int8_t odd_output(const view_t *v, const channel_t *c, const int16_t *x)
{
    const uint32_t *w = c->w;
    int32_t acc = c->fused.bias;
    for (int32_t r = 0; r < v->rows; r++, x += v->pitch) {
        for (int32_t k = 0; k < v->words; k++) {
            acc = dhn_smlad(dhn_load32(x + 2 * k), *w++, acc);
        }
    }
    return dhn_clamp(dhn_requantize(acc, c->fused.scale, c->shift) + c->out_zp, INT8_MIN, INT8_MAX);
}

DHN_RARE void odd_line(const view_t *v, const channel_t *c, const int16_t *x, int8_t *out)
{
    for (int32_t i = 0; i < v->out_positions; i++) {
        out[i * v->out_step] = odd_output(v, c, x + i * v->stride);
    }
}

/* The last tile may reach behind the line: its outputs take a detour. */
static void fused_line(const view_t *v, const channel_t *c, const int16_t *x, int8_t *out)
{
    int32_t const stride = v->stride * (int32_t)sizeof(int16_t);
    int32_t const pitch = v->pitch * (int32_t)sizeof(int16_t);
    dhn_depthwise_any_t t = {v->words, c->out_zp, c->fused.scale, c->fused.round, out,   v->out_step,  c->w,
                             x,        stride,    3 * stride,     v->rows,        pitch, c->fused.bias};
    int32_t left = v->out_positions;
    for (; left >= TILE; left -= TILE, t.x += TILE * v->stride, t.out += TILE * v->out_step) {
        dhn_depthwise_any_four(&t);
    }
    if (left > 0) {
        int8_t last[TILE];
        int8_t *const to = t.out;
        t.out = last;
        t.out_step = 1;
        dhn_depthwise_any_four(&t);
        for (int32_t i = 0; i < left; i++) {
            to[i * v->out_step] = last[i];
        }
    }
}

static void clamp_line(const view_t *v, const dhn_conv_t *p, int8_t *out)
{
    for (int32_t i = 0; i < v->out_positions; i++, out += v->out_step) {
        *out = dhn_clamp(*out, p->act_min, p->act_max);
    }
}

static void one_channel(const view_t *v, const dhn_conv_t *p, const channel_t *c, const int16_t *plane, int8_t *out)
{
    bool const clamps = p->act_min > INT8_MIN || p->act_max < INT8_MAX;
    for (int32_t y = 0; y < v->out_lines; y++, out += v->out_line_step, plane += v->stride_line * v->pitch) {
        if (c->fused.round == 0) {
            odd_line(v, c, plane, out);
        } else {
            fused_line(v, c, plane, out);
        }
        if (clamps) {
            clamp_line(v, p, out);
        }
    }
}

static void run(const view_t *v, const dhn_conv_t *p, const dhn_io_t *io)
{
    int16_t *const plane = io->scratch;
    int32_t const multiplier = p->out_c / p->in_c;
    const uint32_t *w = (const void *)(io->consts + p->weight);
    const dhn_fused_t *const fused = (const void *)(io->consts + p->bias);
    const int8_t *const shift = (const int8_t *)(io->consts + p->shift);
    fill(v, plane, p->in_zp);
    for (int32_t o = 0; o < p->out_c; o++, w += v->rows * v->words) {
        channel_t const channel = {fused[o], dhn_clamp(shift[o], -31, 30), p->out_zp,
                                   w}; /* a pack's byte may be anything */
        if (o % multiplier == 0) {
            load_plane(v, io->in0 + o / multiplier, plane);
        }
        one_channel(v, p, &channel, plane, io->out + o);
    }
}

/* Filters at least as wide as high; over an image of the same size, with one output per channel, in place. */
dhn_kernel_fn dhn_depthwise_wide_s8__armv7em;
void dhn_depthwise_wide_s8__armv7em(const void *params, const dhn_io_t *io)
{
    view_t const v = along_width(params);
    run(&v, params, io);
}

/* Filters higher than wide; in place likewise. */
dhn_kernel_fn dhn_depthwise_high_s8__armv7em;
void dhn_depthwise_high_s8__armv7em(const void *params, const dhn_io_t *io)
{
    view_t const v = along_height(params);
    run(&v, params, io);
}
