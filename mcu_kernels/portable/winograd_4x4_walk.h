/* How Winograd F(4x4, 3x3) walks over an image. Whoever includes this has the loops, which are static, included before. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_4X4_WALK_H
#define DHN_WINOGRAD_4X4_WALK_H

#include "portable/winograd_4x4.h"

/* The output is worked off in batches of four tiles (4x4 outputs each): two windows of two tiles side by side, windows
 * counted along block rows of four output rows. Per batch: transform the input into slots; then for each pair of output
 * channels multiply and transform back.
 *
 * Output over input (equal width and channels, out + one row <= in): when a batch writes, all windows up to its last are
 * transformed. Later windows need input rows from 4t + 3 on of later block rows (output rows up to 4t + 3 reach up to
 * input row 4t + 2), and in its own block row t the columns from that which its last output column overwrites: this one
 * is kept aside. That holds at exactly one row of distance, or for images of at most two windows' width; otherwise the
 * input, which is lost anyhow, is first moved to that distance. */

/* A pixel of the input or of the output. */
typedef struct {
    int32_t y, x;
} place_t;

typedef struct {
    const dhn_conv_t *p;
    const int8_t *in;
    uint8_t *slots;   /* 36 of `at.step` bytes */
    uint32_t *middle; /* column transforms of one window */
    uint32_t *kept;   /* the first column of the window after a batch: [in_c / 4][6] words */
    place_t kept_at;
    int32_t in_c; /* of the slots: rounded up to 4; weights of the channels in excess are zero, whatever their pixels */
    bool copy;    /* the input cannot be read in words where it lies */
    uint32_t zeros; /* four channels of padding */
    dhn_wino_place_t at;
} wino_t;

/* Brings the sums of output channels o and o + 1 into the slots. */
typedef void multiply_t(const wino_t *w, const dhn_io_t *io, int32_t o);

/* Up to four channels of a pixel. */
static inline uint32_t pixel_word(const int8_t *p, int32_t channels)
{
    uint32_t word = (uint8_t)p[0];
    if (channels >= 4) {
        memcpy(&word, p, sizeof word);
        return word;
    }
    for (int32_t i = 1; i < channels; i++) {
        word |= (uint32_t)(uint8_t)p[i] << (8 * i);
    }
    return word;
}

/* Words of `count` columns inside the image, four channels from c on, `pitch` words from row to row; rows outside the image
 * are padding. */
static void copy_columns(const wino_t *w, place_t at, int32_t c, int32_t count, uint32_t *to, int32_t pitch)
{
    int32_t const in_w = w->p->in_w, in_c = w->p->in_c;
    for (int32_t y = at.y; y < at.y + 6; y++, to += pitch) {
        bool const inside = y >= 0 && y < w->p->in_h;
        const int8_t *p = w->in + (y * in_w + at.x) * in_c + c;
        for (int32_t j = 0; j < count; j++, p += in_c) {
            to[j] = inside ? pixel_word(p, in_c - c) : w->zeros;
        }
    }
}

/* The first column of a window that is transformed after the next outputs. */
static void keep_column(wino_t *w, place_t window)
{
    w->kept_at = (place_t){window.y - w->p->pad_t, window.x - w->p->pad_l};
    if (w->kept_at.x >= 0 && w->kept_at.x < w->p->in_w) {
        for (int32_t c = 0; c < w->in_c; c += 4) {
            copy_columns(w, w->kept_at, c, 1, w->kept + c / 4 * 6, 1);
        }
    }
}

/* How many columns from `at` on, at most 10, can be read alike, four channels from c on, and where. `pixels` holds copies if
 * rows lie outside or words cannot be read. */
static int32_t find_columns(const wino_t *w, place_t at, int32_t c, dhn_wino_columns_t *from, uint32_t *pixels)
{
    int32_t const in_w = w->p->in_w, in_c = w->p->in_c;
    if (at.x < 0 || at.x >= in_w) {
        *from = (dhn_wino_columns_t){(const int8_t *)&w->zeros, 0, 0};
        return (at.x < 0) ? -at.x : DHN_WINO_COLUMNS;
    }
    if (at.x == w->kept_at.x && at.y == w->kept_at.y) {
        *from = (dhn_wino_columns_t){(const int8_t *)(w->kept + c / 4 * 6), 4, 0};
        return 1;
    }
    int32_t const count = (in_w - at.x < DHN_WINO_COLUMNS) ? in_w - at.x : DHN_WINO_COLUMNS;
    if (w->copy || at.y < 0 || at.y + 6 > w->p->in_h) {
        copy_columns(w, at, c, count, pixels, DHN_WINO_COLUMNS);
        *from = (dhn_wino_columns_t){(const int8_t *)pixels, DHN_WINO_COLUMNS * 4, 4};
    } else {
        *from = (dhn_wino_columns_t){w->in + (at.y * in_w + at.x) * in_c + c, in_w * in_c, in_c};
    }
    return count;
}

/* Input of a window to the words of its tiles, the first of which has its words at `slot`. */
static void transform_window(const wino_t *w, place_t window, uint8_t *slot)
{
    for (int32_t c = 0; c < w->in_c; c += 4, slot += 2u * w->at.pair_bytes) {
        for (int32_t i = 0; i < DHN_WINO_COLUMNS;) {
            uint32_t pixels[6 * DHN_WINO_COLUMNS];
            dhn_wino_columns_t from;
            place_t const at = {window.y - w->p->pad_t, window.x - w->p->pad_l + i};
            int32_t const found = find_columns(w, at, c, &from, pixels), room = DHN_WINO_COLUMNS - i;
            dhn_wino_columns(&from, w->middle + i, (found < room) ? found : room);
            i += found;
        }
        dhn_wino_rows(w->middle, slot, &w->at);
    }
}

/* The outputs at (y, x) of one channel whose tile does not fit: some rows, some columns. */
static __attribute__((noinline)) void put_part(const wino_t *w, const uint8_t *sums, int8_t *out,
                                               const dhn_wino_channel_t *c, int32_t rows, int32_t columns)
{
    int8_t tile[4][4];
    dhn_wino_place_t at = w->at;
    at.row_bytes = 4;
    at.pixel_bytes = 1;
    dhn_wino_outputs(sums, tile[0], c, &at);
    for (int32_t i = 0; i < 4 && i < rows; i++) {
        for (int32_t j = 0; j < 4 && j < columns; j++) {
            out[i * (int32_t)w->at.row_bytes + j * (int32_t)w->at.pixel_bytes] = tile[i][j];
        }
    }
}

/* Both tiles of a window, both output channels; sums are [channel][tile of the batch]. */
static void put_window(const wino_t *w, place_t window, const uint8_t *sums, int8_t *out, const dhn_wino_channel_t *c)
{
    int32_t const rows = w->p->out_h - window.y;
    for (int32_t x = window.x; x <= window.x + 4; x += 4, sums += 4) {
        int32_t const columns = w->p->out_w - x;
        int8_t *const to = out + (window.y * w->p->out_w + x) * w->p->out_c;
        if (rows >= 4 && columns >= 4) {
            dhn_wino_outputs(sums, to, c, &w->at);
            dhn_wino_outputs(sums + 16, to + 1, c + 1, &w->at);
        } else if (rows > 0 && columns > 0) {
            put_part(w, sums, to, c, rows, columns);
            put_part(w, sums + 16, to + 1, c + 1, rows, columns);
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

static void start(wino_t *w, const dhn_conv_t *p, const dhn_io_t *io, uint32_t pair_bytes)
{
    w->p = p;
    w->in_c = (p->in_c + 3) & ~3;
    uint32_t const step = pair_bytes * ((uint32_t)w->in_c / 2u) + DHN_WINO_SUM_BYTES;
    uint32_t const row = (uint32_t)p->out_w * p->out_c;
    w->in = io->in0;
    w->slots = io->scratch;
    w->middle = (void *)(w->slots + DHN_WINO_FREQUENCIES * step);
    w->kept = w->middle + 2 * 6 * DHN_WINO_COLUMNS;
    w->kept_at = (place_t){0, -1};
    w->at = (dhn_wino_place_t){step, 3u * step, 5u * step, pair_bytes, row, p->out_c, p->out_zp};
    memset(&w->zeros, p->in_zp, sizeof w->zeros);
    uintptr_t const distance = (uintptr_t)io->in0 - (uintptr_t)io->out;
    uint32_t const bytes = (uint32_t)p->in_h * row;
    if (p->out_w > 16u && distance > row && distance < bytes && p->in_w == p->out_w && p->in_c == p->out_c) {
        w->in = memmove(io->out + row, io->in0, bytes);
    }
    w->copy = w->in_c != p->in_c || (!DHN_WINO_READS_UNALIGNED && ((uintptr_t)w->in & 3u) != 0u);
}

static void run(const dhn_conv_t *p, const dhn_io_t *io, uint32_t pair_bytes, multiply_t *multiply)
{
    const dhn_wino_channel_t *const channel = (const void *)(io->consts + p->bias);
    wino_t w;
    start(&w, p, io, pair_bytes);
    place_t next = {0, 0};
    while (next.y < p->out_h) {
        place_t batch[2];
        for (int32_t i = 0; i < 2; i++) {
            batch[i] = next;
            if (next.y < p->out_h) {
                transform_window(&w, next, w.slots + 8 * i);
            }
            next.x += 8;
            if (next.x >= p->out_w) {
                next = (place_t){next.y + 4, 0};
            }
        }
        if (next.x > 0) {
            keep_column(&w, next);
        }
        const uint8_t *const sums = w.slots + w.at.step - DHN_WINO_SUM_BYTES;
        for (int32_t o = 0; o < p->out_c; o += 2) {
            multiply(&w, io, o);
            put_window(&w, batch[0], sums, io->out + o, channel + o);
            put_window(&w, batch[1], sums + 8, io->out + o, channel + o);
        }
    }
    clamp_outputs(p, io->out);
}

#endif
