/* Convolution with two products per 32 x 32 -> 64 bit multiply-accumulate, for cores that have one (Cortex-M3: SMLAL). */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* Two pixels' values share a word, x0 + x1 * 2^23, and so do their sums a 64-bit accumulator: s0 + s1 * 2^23. The host proves
 * |s| < 2^22 for every output channel, so that the lower sum can be told from the upper one.
 *
 * Four pixels meet two output channels: per step two loads of words, two of weights, four SMLAL, eight products. Scratch
 * holds the words of four pixels, then (unless pixels are read in place) their windows, each rounded up to 4 bytes.
 *
 * Order: all of a group's input is read before any of its output is written. After pixel j - 1 is written, rows from
 * y(j) * stride_h - pad_t on are still to be read, so the output may end y(j) rows' worth behind: kernels.toml has the
 * largest difference over all y. */

enum { GROUP = 4, FIELD = 23 };

static inline int32_t packed(int32_t low, int32_t high)
{
    return low + high * (1 << FIELD); /* at most 2^30 + 2^7 */
}

DHN_INNER void pack_step(int32_t a, int32_t b, int32_t c, int32_t d, int32_t *to)
{
    to[0] = packed(a, b);
    to[1] = packed(c, d);
}

/* `count` values of four pixels as words {x0, x1}, {x2, x3}, ... */
static void pack(const int8_t *const from[GROUP], int32_t count, int32_t *to)
{
    const int8_t *a = from[0], *b = from[1], *c = from[2], *d = from[3];
    for (; count >= 4; count -= 4, a += 4, b += 4, c += 4, d += 4, to += 8) {
        pack_step(a[0], b[0], c[0], d[0], to);
        pack_step(a[1], b[1], c[1], d[1], to + 2);
        pack_step(a[2], b[2], c[2], d[2], to + 4);
        pack_step(a[3], b[3], c[3], d[3], to + 6);
    }
    for (; count > 0; count--, to += 2) {
        pack_step(*a++, *b++, *c++, *d++, to);
    }
}

/* Sums of two channels: {pixels 0 and 1, pixels 2 and 3} of the first, then of the second. */
typedef struct {
    dhn_wide_t a, b, c, d;
} sums_t;

DHN_INNER void step(const int32_t *x, const int8_t *w, sums_t *s)
{
    int32_t const low = x[0], high = x[1], w0 = w[0], w1 = w[1];
    dhn_wide_mac(&s->a, low, w0);
    dhn_wide_mac(&s->b, high, w0);
    dhn_wide_mac(&s->c, low, w1);
    dhn_wide_mac(&s->d, high, w1);
}

/* `count` is a multiple of 4; the host fills up with weights of zero, so what the words behind the window hold is all one. */
DHN_INNER void multiply(const int32_t *x, const int8_t *w, int32_t count, sums_t *total)
{
    sums_t s = *total;
    for (const int8_t *const end = w + 2 * count; w != end; w += 8, x += 8) {
        step(x, w, &s);
        step(x + 2, w + 2, &s);
        step(x + 4, w + 4, &s);
        step(x + 6, w + 6, &s);
    }
    *total = s;
}

static inline int32_t lower(dhn_wide_t sum)
{
    return (int32_t)(sum.low << (32 - FIELD)) >> (32 - FIELD);
}

static inline int32_t upper(dhn_wide_t sum)
{
    return (int32_t)((dhn_wide_value(sum) - lower(sum)) >> FIELD);
}

/* One channel of four pixels; `pixels` of them exist. */
static inline void store(const dhn_output_t *o, const dhn_row_t *row, dhn_wide_t first, dhn_wide_t second, int8_t *out,
                         int32_t pixels)
{
    int32_t const acc[GROUP] = {lower(first), upper(first), lower(second), upper(second)};
    dhn_finish(o, row, acc, out, pixels);
}

/* A bias in both fields. */
static inline dhn_wide_t start(const dhn_row_t *row)
{
    dhn_wide_t sum = {0, 0};
    dhn_wide_mac(&sum, row->bias, (1 << FIELD) + 1);
    return sum;
}

/* All output channels of a group. */
static void group_outputs(const dhn_conv_t *p, const dhn_io_t *io, int32_t steps, int8_t *out, int32_t pixels)
{
    const int32_t *const x = io->scratch;
    const int8_t *w = (const int8_t *)(io->consts + p->weight);
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    dhn_output_t const o = {p->act_min, p->act_max, p->out_c};
    for (int32_t c = 0; c < o.pitch; c += 2, row += 2, w += 2 * steps, out += 2) {
        dhn_wide_t const first = start(&row[0]), second = start(&row[1]);
        sums_t s = {first, first, second, second};
        multiply(x, w, steps, &s);
        store(&o, &row[0], s.a, s.b, out, pixels);
        if (c + 1 < o.pitch) {
            store(&o, &row[1], s.c, s.d, out + 1, pixels);
        }
    }
}

/* The group's pixels are neighbours in a row and their windows lie inside the image: rows are packed where they lie. */
static void pack_inside(const dhn_conv_t *p, const int8_t *corner, int32_t *to)
{
    int32_t const run = p->kw * p->in_c, apart = p->stride_w * p->in_c;
    int32_t const next = p->dilation_h * p->in_w * p->in_c;
    for (int32_t ky = 0; ky < p->kh; ky++, corner += next, to += 2 * run) {
        const int8_t *const from[GROUP] = {corner, corner + apart, corner + 2 * apart, corner + 3 * apart};
        pack(from, run, to);
    }
}

/* Windows that reach over the border, or fewer pixels than a group has: those that are missing repeat the first. */
static void pack_gathered(const dhn_conv_t *p, const dhn_io_t *io, dhn_place_t at, int32_t pixels, int32_t *to)
{
    int32_t const count = p->kh * p->kw * p->in_c, pitch = (count + 3) & ~3;
    const int8_t *from[GROUP];
    dhn_gather_4(p, io->in0, &at, pixels, (int8_t *)(to + 2 * pitch), pitch, from);
    pack(from, pitch, to);
}

dhn_kernel_fn dhn_conv_pairs_s8__portable;
void dhn_conv_pairs_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const total = p->out_h * p->out_w;
    int32_t const steps = (p->kh * p->kw * p->in_c + 3) & ~3;
    dhn_place_t at = {0, 0};
    int8_t *out = io->out;
    for (int32_t i = 0; i < total; i += GROUP, out += GROUP * p->out_c) {
        int32_t const pixels = (total - i < GROUP) ? total - i : GROUP;
        if (pixels == GROUP && dhn_inside(p, at, GROUP)) {
            pack_inside(p, dhn_corner(p, io->in0, at), io->scratch);
        } else {
            pack_gathered(p, io, at, pixels, io->scratch);
        }
        group_outputs(p, io, steps, out, pixels);
        dhn_advance(p, &at, GROUP);
    }
}

dhn_kernel_fn dhn_conv_1x1_pairs_s8__portable;
void dhn_conv_1x1_pairs_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const total = p->out_h * p->out_w;
    int32_t const steps = (p->in_c + 3) & ~3;
    dhn_place_t at = {0, 0};
    int8_t *out = io->out;
    for (int32_t i = 0; i < total; i += GROUP, out += GROUP * p->out_c) {
        const int8_t *from[GROUP];
        int32_t const pixels = (total - i < GROUP) ? total - i : GROUP;
        dhn_corners_4(p, io->in0, &at, pixels, from);
        pack(from, p->in_c, io->scratch);
        group_outputs(p, io, steps, out, pixels);
    }
}
