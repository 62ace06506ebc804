/* 3x3 convolution, stride 1, by exact integer Winograd F(4x4, 3x3): 36 products for 16 outputs instead of 144. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "dhn_kernels.h"
#include "winograd_4x4_tiles.h"

/* The output is worked off in batches of four tiles (4x4 outputs each): two windows of two tiles side by side, windows
 * counted along block rows of four output rows. Per batch: transform the input into slots; then for each pair of output
 * channels multiply and transform back.
 *
 * Output over input (equal width and channels, out + one row <= in): when a batch writes, all windows up to its last are
 * transformed. Later windows need input rows from 4t + 3 on of later block rows (output rows up to 4t + 3 reach up to
 * input row 4t + 2), and in its own block row t the columns from that which its last output column overwrites: this one
 * is kept aside. That holds at exactly one row of distance, or for images of at most two windows' width; otherwise the
 * input, which is lost anyhow, is first moved to that distance. */

typedef struct {
    const dhn_conv_t *p;
    const int8_t *in;
    uint8_t *slots;   /* 36 of `at.step` bytes */
    uint32_t *middle; /* column transforms of one window */
    int8_t *kept;     /* 6 pixels: the first column of the window after a batch */
    int32_t kept_x, kept_y;
    dhn_wino_place_t at;
    uint32_t zeros; /* four channels of padding */
} wino_t;

static void gather(const wino_t *w, int32_t y, int32_t x, int32_t c, int32_t bytes, int8_t *to)
{
    int32_t const in_w = w->p->in_w, in_h = w->p->in_h, in_c = w->p->in_c;
    const int8_t *from = w->in + (y * in_w + x) * in_c + c;
    for (int32_t i = 0; i < 6; i++, from += in_w * in_c, to += bytes) {
        if (y + i >= 0 && y + i < in_h && x >= 0 && x < in_w) {
            memcpy(to, from, (size_t)bytes);
        } else {
            memset(to, w->p->in_zp, (size_t)bytes);
        }
    }
}

/* Up to 10 columns from (y, x) on, four channels from c on, that are found alike: how many, and where. `pixels` holds
 * copies where rows lie outside. */
static int32_t find_columns(const wino_t *w, int32_t y, int32_t x, int32_t c, dhn_wino_columns_t *from,
                            uint32_t *pixels)
{
    int32_t const in_w = w->p->in_w, in_h = w->p->in_h, in_c = w->p->in_c;
    if (x < 0 || x >= in_w) {
        *from = (dhn_wino_columns_t){(const int8_t *)&w->zeros, 0, 0};
        return (x < 0) ? -x : DHN_WINO_COLUMNS;
    }
    if (x == w->kept_x && y == w->kept_y) {
        *from = (dhn_wino_columns_t){w->kept + c, in_c, 0};
        return 1;
    }
    *from = (dhn_wino_columns_t){w->in + (y * in_w + x) * in_c + c, in_w * in_c, in_c};
    int32_t const count = (in_w - x < DHN_WINO_COLUMNS) ? in_w - x : DHN_WINO_COLUMNS;
    if (y < 0 || y + 6 > in_h) {
        for (int32_t i = 0; i < 6; i++) {
            const int8_t *p = from->p + i * from->below;
            bool const inside = y + i >= 0 && y + i < in_h;
            for (int32_t j = 0; j < count; j++, p += in_c) {
                pixels[i * DHN_WINO_COLUMNS + j] = inside ? dhn_load32(p) : w->zeros;
            }
        }
        *from = (dhn_wino_columns_t){(const int8_t *)pixels, DHN_WINO_COLUMNS * 4, 4};
    }
    return count;
}

/* Window `half` of the batch: its upper left input pixel is (y, x). */
static void transform_window(const wino_t *w, int32_t y, int32_t x, int32_t half)
{
    for (int32_t c = 0; c < w->p->in_c; c += 4) {
        for (int32_t i = 0; i < DHN_WINO_COLUMNS;) {
            uint32_t pixels[6 * DHN_WINO_COLUMNS];
            dhn_wino_columns_t from;
            int32_t const found = find_columns(w, y, x + i, c, &from, pixels), room = DHN_WINO_COLUMNS - i;
            dhn_wino_columns(&from, w->middle + i, (found < room) ? found : room);
            i += found;
        }
        dhn_wino_rows(w->middle, w->slots + c * 8 + half * 8, &w->at);
    }
}

/* One tile of one output channel: outputs (y, x) onwards, of which the image may hold fewer than 16. */
static void put_tile(const wino_t *w, int32_t y, int32_t x, const uint8_t *sums, const dhn_wino_channel_t *c,
                     int8_t *out)
{
    int32_t const rows = w->p->out_h - y, columns = w->p->out_w - x, out_c = w->p->out_c;
    if (rows <= 0 || columns <= 0) {
        return;
    }
    out += (y * w->p->out_w + x) * out_c;
    if (rows >= 4 && columns >= 4) {
        dhn_wino_outputs(sums, out, c, &w->at);
        return;
    }
    int8_t tile[4][4];
    dhn_wino_place_t at = w->at;
    at.row_bytes = 4;
    at.pixel_bytes = 1;
    dhn_wino_outputs(sums, tile[0], c, &at);
    for (int32_t i = 0; i < 4 && i < rows; i++) {
        for (int32_t j = 0; j < 4 && j < columns; j++) {
            out[(i * w->p->out_w + j) * out_c] = tile[i][j];
        }
    }
}

static void clamp_outputs(const dhn_conv_t *p, int8_t *out)
{
    if (p->act_min <= -128 && p->act_max >= 127) {
        return;
    }
    for (int32_t n = p->out_h * p->out_w * p->out_c; n > 0; n--, out++) {
        int32_t const low = (*out < p->act_min) ? p->act_min : *out;
        *out = (int8_t)((low > p->act_max) ? p->act_max : low);
    }
}

static void start(wino_t *w, const dhn_conv_t *p, const dhn_io_t *io)
{
    uint32_t const step = 8u * p->in_c + DHN_WINO_SUM_BYTES, row = (uint32_t)p->out_w * p->out_c;
    w->p = p;
    w->in = io->in0;
    w->slots = io->scratch;
    w->middle = (void *)(w->slots + DHN_WINO_FREQUENCIES * step);
    w->kept = (int8_t *)(w->middle + 2 * 6 * DHN_WINO_COLUMNS);
    w->kept_x = -1;
    w->kept_y = 0;
    w->at = (dhn_wino_place_t){step, 3u * step, 5u * step, row, p->out_c, p->out_zp};
    memset(&w->zeros, p->in_zp, sizeof w->zeros);
    uintptr_t const distance = (uintptr_t)io->in0 - (uintptr_t)io->out;
    uint32_t const bytes = (uint32_t)p->in_h * row;
    if (p->out_w > 16u && distance > row && distance < bytes && p->in_w == p->out_w && p->in_c == p->out_c) {
        w->in = memmove(io->out + row, io->in0, bytes);
    }
}

dhn_kernel_fn dhn_conv_winograd_4x4_s8__armv7em;

void dhn_conv_winograd_4x4_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    const dhn_wino_channel_t *const channel = (const void *)(io->consts + p->bias);
    wino_t w;
    start(&w, p, io);
    int32_t const across = (p->out_w + 7) >> 3, windows = across * ((p->out_h + 3) >> 2);
    for (int32_t first = 0; first < windows; first += 2) {
        int32_t y[2], x[2];
        for (int32_t half = 0; half < 2; half++) {
            y[half] = (first + half) / across * 4;
            x[half] = (first + half) % across * 8;
            if (first + half < windows) {
                transform_window(&w, y[half] - p->pad_t, x[half] - p->pad_l, half);
            }
        }
        w.kept_y = y[1] - p->pad_t;
        w.kept_x = x[1] + 8 - p->pad_l;
        if (x[1] + 8 < p->out_w) {
            gather(&w, w.kept_y, w.kept_x, 0, p->in_c, w.kept);
        }
        const uint8_t *u = io->consts + p->weight;
        uint8_t *const sums = w.slots + 8 * p->in_c;
        for (int32_t o = 0; o < p->out_c; o += 2, u += DHN_WINO_FREQUENCIES * 4u * p->in_c) {
            dhn_wino_sums(w.slots, u, p->in_c >> 1, w.slots + DHN_WINO_FREQUENCIES * w.at.step);
            for (int32_t k = 0; k < 8; k++) {
                int32_t const half = (k >> 1) & 1;
                put_tile(&w, y[half], x[half] + 4 * (k & 1), sums + 4 * k, &channel[o + (k >> 2)],
                         io->out + o + (k >> 2));
            }
        }
    }
    clamp_outputs(p, io->out);
}
