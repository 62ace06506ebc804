/* Convolutions with int8 weights, no larger in flash than TFLite's: three pixels by two channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
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

/* Access order, for kernels.toml's `lead`: a group's windows are read before its outputs are written. When the outputs
 * before (y, x) are written, (y * out_w + x) * out_c bytes are; the first byte of the input that is still needed belongs to
 * the window of (y, x), or of (y + 1, 0) while both reach over the upper edge, and lies no lower than
 * ((y * stride_h - pad_t) * in_w + x * stride_w - pad_l) * in_c. Both are linear in y and in x: the output leads the input
 * by no more than the sum of what each row, each column and the padding contribute. */
dhn_kernel_fn dhn_conv_s8__armv7em;
void dhn_conv_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    dhn_group_t const g = group_of(p, io, p->kh * p->kw * p->in_c / 4);
    int8_t *out = io->out;
    dhn_window_t at = dhn_window_first(p);
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= DHN_S8_PIXELS) {
        int32_t const count = (left < DHN_S8_PIXELS) ? left : DHN_S8_PIXELS;
        for (int32_t i = 0; i < count; i++) {
            dhn_gather_window((uint32_t *)io->scratch + i, p, io->in0, &at, DHN_S8_PIXELS);
            dhn_window_next(p, &at);
        }
        dhn_group_s8(&g, out, count);
        out += count * p->out_c;
    }
}

/* Any number of input channels: 1 and 3, at first. Scratch: the buffer, then a row of bytes. */
dhn_kernel_fn dhn_conv_rows_s8__armv7em;
void dhn_conv_rows_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const row = p->kw * p->in_c;
    int32_t const quads = p->kh * (row / 4) + (p->kh * (row % 4) + 3) / 4;
    dhn_group_t const g = group_of(p, io, quads);
    int8_t *const spare = (int8_t *)io->scratch + quads * 8 * DHN_S8_PIXELS;
    int8_t *out = io->out;
    dhn_window_t at = dhn_window_first(p);
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= DHN_S8_PIXELS) {
        int32_t const count = (left < DHN_S8_PIXELS) ? left : DHN_S8_PIXELS;
        for (int32_t i = 0; i < count; i++) {
            dhn_gather_rows((uint32_t *)io->scratch + i, p, io->in0, &at, spare, DHN_S8_PIXELS);
            dhn_window_next(p, &at);
        }
        dhn_group_s8(&g, out, count);
        out += count * p->out_c;
    }
}

dhn_kernel_fn dhn_conv_1x1_s8__armv7em;
void dhn_conv_1x1_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    dhn_group_t const g = group_of(p, io, p->in_c / 4);
    int32_t const step = p->stride_w * p->in_c;
    int32_t const next_line = p->stride_h * p->in_w * p->in_c - p->out_w * step;
    int32_t columns = p->out_w;
    int8_t *out = io->out;
    const int8_t *in = io->in0;
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= DHN_S8_PIXELS) {
        int32_t const count = (left < DHN_S8_PIXELS) ? left : DHN_S8_PIXELS;
        for (int32_t i = 0; i < count; i++, in += step) {
            if (columns-- == 0) {
                columns = p->out_w - 1;
                in += next_line;
            }
            dhn_gather_copy((uint32_t *)io->scratch + i, in, p->in_c, DHN_S8_PIXELS);
        }
        dhn_group_s8(&g, out, count);
        out += count * p->out_c;
    }
}
