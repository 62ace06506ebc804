/* How Winograd kernels walk over an image. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_WALK_H
#define DHN_WINOGRAD_WALK_H

#include "portable/winograd.h"

/* The output is worked off in batches of one or two windows, two tiles (T x T outputs each) side by side, windows
 * counted along block rows of T output rows. Per batch: transform the input into slots; then for four or two output
 * channels at a time multiply and transform back.
 *
 * Output over input (equal width and channels, out + one row <= in): when a batch writes, all windows up to its last are
 * transformed. Later block rows need input rows from T(t + 1) - 1 on (output rows up to T(t + 1) - 1 reach up to
 * the input row above that), and in its own block row t the columns from that which its last output column overwrites:
 * this one is kept aside. That holds at exactly one row of distance, or for images no wider than a batch; otherwise the
 * input, which is lost anyhow, is first moved to that distance. */

/* A pixel of the input or of the output. */
typedef struct {
    int32_t y, x;
} place_t;

struct wino;

/* Brings the sums of output channels from o on into the slots. */
typedef void multiply_t(const struct wino *w, const dhn_io_t *io, int32_t o);

/* A kernel's loops, and what they work on. */
typedef struct {
    /* `count` columns of four channels to the column transforms of two pairs, `to` being those of the first column. */
    void (*columns)(const dhn_wino_columns_t *from, uint32_t *to, int32_t count);
    /* Column transforms of a window to the words of its two tiles and two pairs in all slots. */
    void (*rows)(const uint32_t *from, uint8_t *slot, const dhn_wino_place_t *at);
    /* Sums to outputs, of the table's rows from `channel` to at->end. */
    void (*outputs)(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at);
    multiply_t *multiply;
    uint32_t row_bytes;                 /* of the table of output channels */
    int32_t tile, output_tiles;         /* outputs of a tile each way; tiles side by side that `outputs` takes */
    int32_t windows, channels;          /* of a batch */
    uint32_t tile_bytes, channel_bytes; /* from sum to sum */
    uint32_t pair_bytes;                /* of a slot */
} batch_t;

enum { MAX_SIDE = 6, MAX_COLUMNS = 10, MAX_TILE_OUTPUTS = 16 };

/* What a window puts out: where, and how many rows and columns exist. */
typedef struct {
    int8_t *out;
    int32_t rows, columns;
} target_t;

typedef struct wino {
    const dhn_conv_t *p;
    const batch_t *batch;
    const uint8_t *channel; /* the table */
    int32_t side, columns;  /* of a tile's input, of a window's */
    const int8_t *in;
    uint8_t *slots;   /* one of `at.step` bytes for each frequency */
    uint32_t *middle; /* column transforms of one window */
    uint32_t *kept;   /* the first column of the window after a batch: [side][in_c] */
    place_t kept_at;
    bool overlaps; /* the output lies over the input */
    int32_t in_c; /* of the slots: rounded up to 4; weights of the channels in excess are zero, whatever their pixels */
    bool copy;    /* the input cannot be read in words where it lies */
    uint32_t zeros; /* four channels of padding */
    dhn_wino_place_t at;
} wino_t;

static inline int32_t at_most(int32_t x, int32_t limit)
{
    return (x < limit) ? x : limit;
}

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
    for (int32_t y = at.y; y < at.y + w->side; y++, to += pitch) {
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
    place_t const at = {window.y - w->p->pad_t, window.x - w->p->pad_l};
    int32_t const in_w = w->p->in_w, in_c = w->p->in_c;
    if (!w->overlaps || at.x < 0 || at.x >= in_w) {
        return;
    }
    w->kept_at = at;
    uint32_t *to = w->kept;
    for (int32_t y = at.y; y < at.y + w->side; y++) {
        bool const inside = y >= 0 && y < w->p->in_h;
        const int8_t *p = w->in + (y * in_w + at.x) * in_c;
        for (int32_t c = in_c; c > 0; c -= 4, p += 4) {
            *to++ = inside ? pixel_word(p, c) : w->zeros;
        }
    }
}

/* How many columns from `at` on, at most a window's, can be read alike, four channels from c on, and where. `pixels` holds
 * copies if rows lie outside or words cannot be read. */
static int32_t find_columns(const wino_t *w, place_t at, int32_t c, dhn_wino_columns_t *from, uint32_t *pixels)
{
    int32_t const in_w = w->p->in_w, in_c = w->p->in_c;
    if (at.x < 0 || at.x >= in_w) {
        *from = (dhn_wino_columns_t){(const int8_t *)&w->zeros, 0, 0};
        return (at.x < 0) ? -at.x : w->columns;
    }
    if (at.x == w->kept_at.x && at.y == w->kept_at.y) {
        *from = (dhn_wino_columns_t){(const int8_t *)w->kept + c, w->in_c, 0};
        return 1;
    }
    int32_t const count = at_most(in_w - at.x, w->columns);
    if (w->copy || at.y < 0 || at.y + w->side > w->p->in_h) {
        copy_columns(w, at, c, count, pixels, MAX_COLUMNS);
        *from = (dhn_wino_columns_t){(const int8_t *)pixels, MAX_COLUMNS * 4, 4};
    } else {
        *from = (dhn_wino_columns_t){w->in + (at.y * in_w + at.x) * in_c + c, in_w * in_c, in_c};
    }
    return count;
}

/* Input of a window to the words of its tiles, the first of which has its words at `slot`. */
static void transform_window(const wino_t *w, place_t window, uint8_t *slot)
{
    for (int32_t c = 0; c < w->in_c; c += 4, slot += 2u * w->at.pair_bytes) {
        for (int32_t i = 0; i < w->columns;) {
            uint32_t pixels[MAX_SIDE * MAX_COLUMNS];
            dhn_wino_columns_t from;
            place_t const at = {window.y - w->p->pad_t, window.x - w->p->pad_l + i};
            int32_t const found = find_columns(w, at, c, &from, pixels), room = w->columns - i;
            w->batch->columns(&from, w->middle + i, at_most(found, room));
            i += found;
        }
        w->batch->rows(w->middle, slot, &w->at);
    }
}

/* Outputs of `columns` columns, fewer than `outputs` makes or of fewer rows. */
static __attribute__((noinline)) void put_part(const wino_t *w, const target_t *to, const uint8_t *sums, int8_t *out,
                                               const uint8_t *c, int32_t columns)
{
    int32_t const made = w->batch->tile * w->batch->output_tiles;
    dhn_wino_place_t at = w->at;
    at.row_bytes = (uint32_t)made;
    at.pixel_bytes = 1;
    for (; c != w->at.end; c = at.end, sums += at.channel_bytes, out++) {
        int8_t tile[MAX_TILE_OUTPUTS];
        at.end = c + w->batch->row_bytes;
        w->batch->outputs(sums, tile, c, &at);
        for (int32_t i = 0; i < to->rows; i++) {
            for (int32_t j = 0; j < made && j < columns; j++) {
                out[i * (int32_t)w->at.row_bytes + j * (int32_t)w->at.pixel_bytes] = tile[i * made + j];
            }
        }
    }
}

/* A window of which some rows or columns do not exist. */
static __attribute__((noinline)) void put_parts(const wino_t *w, const target_t *to, const uint8_t *sums, int8_t *out,
                                                const uint8_t *c)
{
    const batch_t *const b = w->batch;
    int32_t const made = b->tile * b->output_tiles;
    for (int32_t columns = to->columns; columns > 0; columns -= made) {
        if (to->rows == b->tile && columns >= made) {
            b->outputs(sums, out, c, &w->at);
        } else {
            put_part(w, to, sums, out, c, columns);
        }
        sums += (uint32_t)b->output_tiles * b->tile_bytes;
        out += made * (int32_t)w->at.pixel_bytes;
    }
}

/* Both tiles of a window, output channels from row c of the table to w->at.end. */
static inline void put_window(const wino_t *w, const target_t *to, const uint8_t *sums, int8_t *out, const uint8_t *c)
{
    const batch_t *const b = w->batch;
    if (to->rows != b->tile || to->columns != 2 * b->tile) {
        put_parts(w, to, sums, out, c);
        return;
    }
    b->outputs(sums, out, c, &w->at);
    if (b->output_tiles == 1) {
        b->outputs(sums + b->tile_bytes, out + b->tile * (int32_t)w->at.pixel_bytes, c, &w->at);
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

static void start(wino_t *w, const dhn_conv_t *p, const dhn_io_t *io, const batch_t *b)
{
    w->p = p;
    w->batch = b;
    w->channel = io->consts + p->bias;
    w->in_c = (p->in_c + 3) & ~3;
    w->side = b->tile + 2;
    w->columns = 2 * b->tile + 2;
    uint32_t const step = b->pair_bytes * ((uint32_t)w->in_c / 2u) + DHN_WINO_SUM_BYTES;
    uint32_t const row = (uint32_t)p->out_w * p->out_c;
    w->in = io->in0;
    w->slots = io->scratch;
    w->middle = (void *)(w->slots + (uint32_t)(w->side * w->side) * step);
    w->kept = w->middle + 2 * w->side * w->columns;
    w->kept_at = (place_t){0, -1};
    w->at =
        (dhn_wino_place_t){step, 3u * step, 5u * step, b->pair_bytes, row, p->out_c, p->out_zp, b->channel_bytes, NULL};
    memset(&w->zeros, p->in_zp, sizeof w->zeros);
    uintptr_t const distance = (uintptr_t)io->in0 - (uintptr_t)io->out;
    uint32_t const bytes = (uint32_t)p->in_h * row;
    w->overlaps = distance < bytes && p->in_w == p->out_w && p->in_c == p->out_c;
    if (w->overlaps && p->out_w > 2 * b->tile * b->windows && distance > row) {
        w->in = memmove(io->out + row, io->in0, bytes);
    }
    w->copy = w->in_c != p->in_c || (!DHN_WINO_READS_UNALIGNED && ((uintptr_t)w->in & 3u) != 0u);
}

/* Brings the next window into slots; returns where its outputs go: nowhere behind the image. */
static target_t next_window(const wino_t *w, place_t *next, uint8_t *slot, int8_t *out)
{
    const dhn_conv_t *const p = w->p;
    int32_t const tile = w->batch->tile;
    if (next->y >= p->out_h) {
        return (target_t){out, 0, 0};
    }
    target_t const to = {out + (next->y * p->out_w + next->x) * p->out_c, at_most(p->out_h - next->y, tile),
                         at_most(p->out_w - next->x, 2 * tile)};
    transform_window(w, *next, slot);
    next->x += 2 * tile;
    if (next->x >= p->out_w) {
        *next = (place_t){next->y + tile, 0};
    }
    return to;
}

static void run(const dhn_conv_t *p, const dhn_io_t *io, const batch_t *b)
{
    wino_t w;
    start(&w, p, io, b);
    place_t next = {0, 0};
    while (next.y < p->out_h) {
        target_t to[2];
        for (int32_t i = 0; i < b->windows; i++) {
            to[i] = next_window(&w, &next, w.slots + 8 * i, io->out);
        }
        if (next.x > 0) {
            keep_column(&w, next);
        }
        const uint8_t *const sums = w.slots + w.at.step - DHN_WINO_SUM_BYTES;
        for (int32_t o = 0; o < p->out_c; o += b->channels) {
            const uint8_t *const c = w.channel + (uint32_t)o * b->row_bytes;
            w.at.end = c + (uint32_t)at_most(p->out_c - o, b->channels) * b->row_bytes;
            b->multiply(&w, io, o);
            for (int32_t i = 0; i < b->windows; i++) {
                put_window(&w, &to[i], sums + 8 * i, to[i].out + o, c);
            }
        }
    }
    clamp_outputs(p, io->out);
}

#endif
