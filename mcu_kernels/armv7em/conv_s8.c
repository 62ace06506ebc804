/* Convolutions with int8 weights, no larger in flash than TFLite's: three pixels by two channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dhn_kernels.h"
#include "gather.h"
#include "tile.h"

static dhn_group_t group_of(const dhn_conv_t *p, const dhn_io_t *io, int32_t quads)
{
    dhn_group_t g;
    g.x = io->scratch;
    g.x_end = g.x + quads * 4 * DHN_S8_PIXELS;
    g.weight = (const int8_t *)(io->consts + p->weight);
    g.pair = (const void *)(io->consts + p->bias);
    g.pair_end = g.pair + p->out_c / 2;
    g.out_c = p->out_c;
    g.out_zp = p->out_zp;
    g.skip = (uint32_t)-quads % DHN_TILE_UNROLL;
    return g;
}

/* The windows of three outputs from `w[0]` on, all inside the image. */
static inline void gather_inside(const dhn_conv_t *p, const int8_t *in, dhn_window_t w, uint32_t *to)
{
    int32_t const line = p->in_w * p->in_c * p->dilation_h, step = p->stride_w * p->in_c;
    int32_t const quads = p->kw * p->in_c / 4;
    const int8_t *from = in + (w.y * p->in_w + w.x) * p->in_c;
    for (int32_t ky = p->kh; ky > 0; ky--, from += line) {
        to = dhn_gather3(to, from, from + step, from + 2 * step, quads);
    }
}

/* Any three windows, tap by tap. */
static inline void gather_taps(const dhn_conv_t *p, const int8_t *in, const dhn_window_t w[3], uint32_t *to,
                               const int8_t *zeros)
{
    for (int32_t ky = 0; ky < p->kh * p->dilation_h; ky += p->dilation_h) {
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int8_t *const f0 = dhn_tap(p, in, w[0].y + ky, w[0].x + kx, zeros);
            const int8_t *const f1 = dhn_tap(p, in, w[1].y + ky, w[1].x + kx, zeros);
            const int8_t *const f2 = dhn_tap(p, in, w[2].y + ky, w[2].x + kx, zeros);
            to = dhn_gather3(to, f0, f1, f2, p->in_c / 4);
        }
    }
}

/* Access order, for kernels.toml's `lead`: a group's windows are read before its outputs are written. When the outputs
 * before (y, x) are written, (y * out_w + x) * out_c bytes are; the first byte of the input that is still needed belongs to
 * the window of (y, x), or of (y + 1, 0) while both reach over the upper edge, and lies no lower than
 * ((y * stride_h - pad_t) * in_w + x * stride_w - pad_l) * in_c. Both are linear in y and in x: the output leads the input
 * by no more than the sum of what each row, each column and the padding contribute.
 *
 * Scratch: the buffer, then a pixel of zero points. */
dhn_kernel_fn dhn_conv_s8__armv7em;
void dhn_conv_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    dhn_group_t const g = group_of(p, io, p->kh * p->kw * p->in_c / 4);
    int8_t *const zeros = (int8_t *)io->scratch + 6 * p->kh * p->kw * p->in_c;
    memset(zeros, p->in_zp, p->in_c);
    int8_t *out = io->out;
    dhn_window_t w[3] = {dhn_window_first(p)};
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 3) {
        w[1] = dhn_window_next(p, w[0]);
        w[2] = dhn_window_next(p, w[1]);
        if (dhn_windows_inside(p, w[0], 3)) {
            gather_inside(p, io->in0, w[0], io->scratch);
        } else {
            gather_taps(p, io->in0, w, io->scratch, zeros);
        }
        dhn_group_s8(&g, out, left);
        out += 3 * p->out_c;
        w[0] = dhn_window_next(p, w[2]);
    }
}

/* A row of taps in bytes: where it lies in the image, or its copy in `spare` if it reaches over the side. */
static inline const int8_t *row_of(const dhn_conv_t *p, const int8_t *in, int32_t y, int32_t x, const int8_t *zeros,
                                   int8_t *spare)
{
    if ((uint32_t)y >= p->in_h) {
        return zeros;
    }
    const int8_t *const from = in + (y * p->in_w + x) * p->in_c;
    if (x >= 0 && x + p->kw <= p->in_w) {
        return from;
    }
    int32_t const row = p->kw * p->in_c;
    int32_t const first = -x * p->in_c, last = (p->in_w - x) * p->in_c;
    for (int32_t i = 0; i < row; i++) {
        spare[i] = (int8_t)((i >= first && i < last) ? from[i] : p->in_zp);
    }
    return spare;
}

/* Rows of taps of three windows: the quads of each, then the bytes that are left of all rows, two to a word. */
static inline void gather_rows(const dhn_conv_t *p, const int8_t *in, const dhn_window_t w[3], uint32_t *to,
                               int8_t *spare)
{
    int32_t const row = p->kw * p->in_c, quads = row / 4, pitch = (row + 3) & ~3;
    const int8_t *const zeros = spare + 3 * pitch;
    uint16_t *rest = (void *)(to + p->kh * quads * 6);
    int32_t next = 1; /* from lane 0 to lane 1; from there over two more pixels to the next lane 0 */
    for (int32_t ky = 0; ky < p->kh * p->dilation_h; ky += p->dilation_h) {
        const int8_t *const f0 = row_of(p, in, w[0].y + ky, w[0].x, zeros, spare);
        const int8_t *const f1 = row_of(p, in, w[1].y + ky, w[1].x, zeros, spare + pitch);
        const int8_t *const f2 = row_of(p, in, w[2].y + ky, w[2].x, zeros, spare + 2 * pitch);
        if (quads > 0) {
            to = dhn_gather3(to, f0, f1, f2, quads);
        }
        for (int32_t i = 4 * quads; i < row; i++, rest += next, next = 6 - next) {
            rest[0] = (uint16_t)f0[i];
            rest[2] = (uint16_t)f1[i];
            rest[4] = (uint16_t)f2[i];
        }
    }
}

/* Any number of input channels. Scratch: the buffer, three rows of taps in bytes, a row of zero points. */
dhn_kernel_fn dhn_conv_rows_s8__armv7em;
void dhn_conv_rows_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const row = p->kw * p->in_c, pitch = (row + 3) & ~3;
    int32_t const quads = p->kh * (row / 4) + (p->kh * (row % 4) + 3) / 4;
    dhn_group_t const g = group_of(p, io, quads);
    int8_t *const spare = (int8_t *)io->scratch + quads * 24;
    memset(spare + 3 * pitch, p->in_zp, (size_t)row);
    int8_t *out = io->out;
    dhn_window_t w[3] = {dhn_window_first(p)};
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 3) {
        w[1] = dhn_window_next(p, w[0]);
        w[2] = dhn_window_next(p, w[1]);
        gather_rows(p, io->in0, w, io->scratch, spare);
        dhn_group_s8(&g, out, left);
        out += 3 * p->out_c;
        w[0] = dhn_window_next(p, w[2]);
    }
}

typedef struct {
    const int8_t *from;
    int32_t columns; /* left in this row */
} pixel_t;

static inline const int8_t *next_pixel(pixel_t *at, const dhn_conv_t *p)
{
    const int8_t *const from = at->from;
    at->from += p->stride_w * p->in_c;
    if (--at->columns == 0) {
        at->columns = p->out_w;
        at->from += (p->stride_h * p->in_w - p->out_w * p->stride_w) * p->in_c;
    }
    return from;
}

/* Scratch: the buffer. */
dhn_kernel_fn dhn_conv_1x1_s8__armv7em;
void dhn_conv_1x1_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    dhn_group_t const g = group_of(p, io, p->in_c / 4);
    pixel_t at = {io->in0, p->out_w};
    int8_t *out = io->out;
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 3) {
        const int8_t *const f0 = next_pixel(&at, p);
        const int8_t *const f1 = (left > 1) ? next_pixel(&at, p) : f0;
        const int8_t *const f2 = (left > 2) ? next_pixel(&at, p) : f0;
        dhn_gather3(io->scratch, f0, f1, f2, p->in_c / 4);
        dhn_group_s8(&g, out, left);
        out += 3 * p->out_c;
    }
}
