/* Depthwise convolution, one channel at a time from a copy of its plane with a border. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* A channel's values are gathered into scratch as lines along the longer side of the output; the border, which is the same
 * for all channels, is written once. Four outputs of a line are computed at a time. Where a line does not divide by four
 * the last tile repeats outputs of the one before; a line shorter than four has room to read four.
 *
 * In place: when a channel's outputs are written, the whole channel has been copied, and no other channel is touched. */

enum { TILE = 4 };

/* Along a side: padded size, stride, taps and first pixel in the plane; pixels of the image that it holds and their distance
 * in bytes; outputs and theirs. */
typedef struct {
    int32_t size, stride, taps, first, pixels, step, outputs, pitch;
} side_t;

typedef struct {
    side_t across, along; /* lines, and what a line holds */
} plane_t;

static side_t side_of(int32_t in, int32_t step, int32_t out, int32_t pitch, int32_t taps, int32_t stride, int32_t pad)
{
    int32_t const size = (((out > TILE) ? out : TILE) - 1) * stride + taps;
    int32_t const room = (size > pad) ? size - pad : 0;
    side_t const side = {size, stride, taps, pad, (in < room) ? in : room, step, out, pitch};
    return side;
}

static plane_t plane_of(const dhn_conv_t *p)
{
    side_t const y = side_of(p->in_h, p->in_w * p->in_c, p->out_h, p->out_w * p->out_c, p->kh, p->stride_h, p->pad_t);
    side_t const x = side_of(p->in_w, p->in_c, p->out_w, p->out_c, p->kw, p->stride_w, p->pad_l);
    bool const upright = p->out_h > p->out_w;
    plane_t const plane = {upright ? x : y, upright ? y : x};
    return plane;
}

/* The image's part of a channel's plane. */
static void copy_channel(const plane_t *plane, const int8_t *in, int8_t *to)
{
    int32_t const step = plane->along.step;
    to += plane->across.first * plane->along.size + plane->along.first;
    for (int32_t n = plane->across.pixels; n > 0; n--, in += plane->across.step, to += plane->along.size) {
        const int8_t *from = in;
        int8_t *cell = to;
        int32_t left = plane->along.pixels;
        for (; left >= 4; left -= 4, cell += 4) {
#pragma GCC unroll 4
            for (int32_t i = 0; i < 4; i++, from += step) {
                cell[i] = *from;
            }
        }
        for (; left > 0; left--, from += step) {
            *cell++ = *from;
        }
    }
}

/* One line's part of four outputs, three taps at a constant stride: a value is loaded once and meets its taps at once, and
 * the statement at the end keeps GCC from loading the next line's values and taps before there are registers for them. */
DHN_INNER void taps_3(const int8_t *x, const int8_t *w, int32_t stride, int32_t acc[TILE])
{
    int32_t const tap[3] = {w[0], w[1], w[2]};
#pragma GCC unroll 16
    for (int32_t e = 0; e < 3 * stride + 3; e++) {
        int32_t const value = x[e];
#pragma GCC unroll 4
        for (int32_t i = 0; i < TILE; i++) {
            if (e >= i * stride && e < i * stride + 3) {
                dhn_mac(&acc[i], value, tap[e - i * stride]);
            }
        }
    }
    __asm volatile("" : : : "memory");
}

DHN_INNER void taps_any(const int8_t *x, const int8_t *w, int32_t taps, int32_t stride, int32_t acc[TILE])
{
    for (int32_t k = 0; k < taps; k++, x++) {
        int32_t const weight = w[k];
        dhn_mac(&acc[0], x[0], weight);
        dhn_mac(&acc[1], x[stride], weight);
        dhn_mac(&acc[2], x[2 * stride], weight);
        dhn_mac(&acc[3], x[3 * stride], weight);
    }
}

/* taps: 3 where both sides have three and a constant stride, else 0. */
DHN_INNER void window(const plane_t *plane, const int8_t *x, const int8_t *w, int32_t taps, int32_t stride,
                      int32_t acc[TILE])
{
    if (taps == 3) {
        taps_3(x, w, stride, acc);
        taps_3(x + plane->along.size, w + 3, stride, acc);
        taps_3(x + 2 * plane->along.size, w + 6, stride, acc);
        return;
    }
    for (int32_t k = 0; k < plane->across.taps; k++, x += plane->along.size, w += plane->along.taps) {
        taps_any(x, w, plane->along.taps, plane->along.stride, acc);
    }
}

/* All outputs of one channel. */
DHN_INNER void channel(const plane_t *plane, const dhn_row_t *row, const dhn_output_t *to, const int8_t *x,
                       const int8_t *w, int32_t taps, int32_t stride, int8_t *out)
{
    side_t const along = plane->along;
    int32_t const rest = (along.outputs > TILE) ? along.outputs - TILE : 0;
    for (int32_t line = 0; line < plane->across.outputs; line++, out += plane->across.pitch) {
        const int8_t *const start = x + line * plane->across.stride * along.size;
        for (int32_t done = 0; done < along.outputs; done += TILE) {
            int32_t const at = (done < rest) ? done : rest;
            int32_t sum[TILE] = {row->bias, row->bias, row->bias, row->bias};
            window(plane, start + at * along.stride, w, taps, stride, sum);
            /* A copy: what has an address may not stay in registers. */
            int32_t const acc[TILE] = {sum[0], sum[1], sum[2], sum[3]};
            dhn_finish(to, row, acc, out + at * along.pitch, along.outputs);
        }
    }
}

DHN_INNER void depthwise(const dhn_conv_t *p, const dhn_io_t *io, int32_t taps, int32_t stride)
{
    plane_t const plane = plane_of(p);
    dhn_output_t const to = {p->act_min, p->act_max, plane.along.pitch};
    const int8_t *w = (const int8_t *)(io->consts + p->weight);
    const dhn_row_t *const row = (const void *)(io->consts + p->bias);
    int32_t const multiplier = p->out_c / p->in_c;
    memset(io->scratch, p->in_zp, (size_t)(plane.across.size * plane.along.size));
    for (int32_t c = 0, o = 0; c < p->in_c; c++) {
        copy_channel(&plane, io->in0 + c, io->scratch);
        for (int32_t end = o + multiplier; o < end; o++, w += p->kh * p->kw) {
            channel(&plane, row + o, &to, io->scratch, w, taps, stride, io->out + o);
        }
    }
}

dhn_kernel_fn dhn_depthwise_3x3_same_s8__portable;
void dhn_depthwise_3x3_same_s8__portable(const void *params, const dhn_io_t *io)
{
    depthwise(params, io, 3, 1);
}

dhn_kernel_fn dhn_depthwise_3x3_s2_s8__portable;
void dhn_depthwise_3x3_s2_s8__portable(const void *params, const dhn_io_t *io)
{
    depthwise(params, io, 3, 2);
}

dhn_kernel_fn dhn_depthwise_s8__portable;
void dhn_depthwise_s8__portable(const void *params, const dhn_io_t *io)
{
    depthwise(params, io, 0, 0);
}
