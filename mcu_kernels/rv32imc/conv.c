/* Convolution in tiles of four pixels by four output channels, which 32 registers hold. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* Per step four values, four weights, sixteen products and sums: 2.5 instructions per product, and a tenth for the loop.
 * Four pixels' values take turns in scratch, a word of four each, so that one pointer and constant offsets reach them.
 *
 * Order: all of a group's input is read before any of its output is written; then rows from y * stride_h - pad_t of the next
 * pixel on are still to be read, in a 1x1 kernel pixels from the next one on. */

enum { GROUP = 4 };

typedef struct {
    int32_t a, b, c, d;
} four_t;

/* One pixel's value meets a weight of each channel. */
DHN_INNER void step(int32_t x, const int32_t w[4], four_t *s)
{
    dhn_mac(&s->a, x, w[0]);
    dhn_mac(&s->b, x, w[1]);
    dhn_mac(&s->c, x, w[2]);
    dhn_mac(&s->d, x, w[3]);
}

/* Step k of four: values at a distance of four. */
DHN_INNER void step_group(const int8_t *x, const int8_t *w, four_t s[GROUP])
{
    int32_t const weights[4] = {w[0], w[1], w[2], w[3]};
    step(x[0], weights, &s[0]);
    step(x[4], weights, &s[1]);
    step(x[8], weights, &s[2]);
    step(x[12], weights, &s[3]);
}

/* `count` is a multiple of 4; the host fills up with weights of zero, so what scratch holds behind the window is all one. */
DHN_INNER void multiply(const int8_t *x, const int8_t *w, int32_t count, four_t total[GROUP])
{
    four_t s[GROUP] = {total[0], total[1], total[2], total[3]};
    for (const int8_t *const end = w + 4 * count; w != end; w += 16, x += 16) {
        step_group(x, w, s);
        step_group(x + 1, w + 4, s);
        step_group(x + 2, w + 8, s);
        step_group(x + 3, w + 12, s);
    }
    memcpy(total, s, sizeof s);
}

/* `count` values of each pixel into words that take turns. */
static void interleave(const int8_t *const from[GROUP], int32_t count, int8_t *to)
{
    uintptr_t const addresses = (uintptr_t)from[0] | (uintptr_t)from[1] | (uintptr_t)from[2] | (uintptr_t)from[3];
    const int8_t *a = from[0], *b = from[1], *c = from[2], *d = from[3];
    int32_t k = 0;
    if ((addresses & 3u) == 0u) {
        for (; k + 4 <= count; k += 4, to += 16, a += 4, b += 4, c += 4, d += 4) {
            dhn_copy_word(to, a);
            dhn_copy_word(to + 4, b);
            dhn_copy_word(to + 8, c);
            dhn_copy_word(to + 12, d);
        }
    }
    for (; k < count; k++, to += ((k & 3) != 0) ? 1 : 13) {
        to[0] = *a++;
        to[4] = *b++;
        to[8] = *c++;
        to[12] = *d++;
    }
}

/* One channel of the group's `pixels`. */
static inline void store(const dhn_output_t *o, const dhn_row_t *row, int32_t a, int32_t b, int32_t c, int32_t d,
                         int8_t *out, int32_t pixels)
{
    int32_t const acc[GROUP] = {a, b, c, d};
    dhn_finish(o, row, acc, out, pixels);
}

/* All output channels of a group; the weights' last group of four may have more than there are. */
static void group_outputs(const dhn_conv_t *p, const dhn_io_t *io, int32_t count, int8_t *out, int32_t pixels)
{
    const int8_t *w = (const int8_t *)(io->consts + p->weight);
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    dhn_output_t const o = {p->act_min, p->act_max, p->out_c};
    for (int32_t c = 0; c < o.pitch; c += 4, row += 4, w += 4 * count, out += 4) {
        four_t const start = {row[0].bias, row[1].bias, row[2].bias, row[3].bias};
        four_t s[GROUP] = {start, start, start, start};
        multiply(io->scratch, w, count, s);
        store(&o, &row[0], s[0].a, s[1].a, s[2].a, s[3].a, out, pixels);
        if (c + 1 < o.pitch) {
            store(&o, &row[1], s[0].b, s[1].b, s[2].b, s[3].b, out + 1, pixels);
        }
        if (c + 2 < o.pitch) {
            store(&o, &row[2], s[0].c, s[1].c, s[2].c, s[3].c, out + 2, pixels);
        }
        if (c + 3 < o.pitch) {
            store(&o, &row[3], s[0].d, s[1].d, s[2].d, s[3].d, out + 3, pixels);
        }
    }
}

dhn_kernel_fn dhn_conv_s8__rv32imc;
void dhn_conv_s8__rv32imc(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const total = p->out_h * p->out_w;
    int32_t const count = p->kh * p->kw * p->in_c, pitch = (count + 3) & ~3;
    int8_t *const windows = (int8_t *)io->scratch + GROUP * pitch;
    dhn_place_t at = {0, 0};
    int8_t *out = io->out;
    for (int32_t i = 0; i < total; i += GROUP, out += GROUP * p->out_c) {
        const int8_t *from[GROUP];
        int32_t const pixels = (total - i < GROUP) ? total - i : GROUP;
        dhn_gather_4(p, io->in0, &at, pixels, windows, pitch, from);
        interleave(from, pitch, io->scratch);
        group_outputs(p, io, pitch, out, pixels);
    }
}

dhn_kernel_fn dhn_conv_1x1_s8__rv32imc;
void dhn_conv_1x1_s8__rv32imc(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const total = p->out_h * p->out_w, steps = (p->in_c + 3) & ~3;
    dhn_place_t at = {0, 0};
    int8_t *out = io->out;
    for (int32_t i = 0; i < total; i += GROUP, out += GROUP * p->out_c) {
        const int8_t *from[GROUP];
        int32_t const pixels = (total - i < GROUP) ? total - i : GROUP;
        dhn_corners_4(p, io->in0, &at, pixels, from);
        interleave(from, p->in_c, io->scratch);
        group_outputs(p, io, steps, out, pixels);
    }
}
