/* Convolution in tiles of two pixels by four output channels, on bytes without signs: the LX106 loads no others. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* The host stores weights as w + 128, the kernel copies values as x + 128. Then sum(x * w) is
 * sum((x + 128) * (w + 128)) - 128 * sum(x + 128) - 128 * sum(w): the last term is in the bias, the one before is the pixel's
 * own and found while copying. All of it is exact modulo 2^32. Steps that fill up a multiple of 4 have w = 0, so that
 * whatever scratch holds there adds nothing.
 *
 * Per step two values, four weights, eight products and sums: 2.75 instructions per product.
 *
 * Order: all of a group's input is read before any of its output is written; then rows from y * stride_h - pad_t of the next
 * pixel on are still to be read, in a 1x1 kernel pixels from the next one on. */

enum { GROUP = 2 };

typedef struct {
    int32_t a, b, c, d;
} four_t;

/* Step k of four. */
DHN_INNER void step_group(const uint8_t *x, const uint8_t *w, four_t s[GROUP])
{
    int32_t const first = x[0], second = x[4];
    int32_t weight = w[0];
    dhn_mac(&s[0].a, first, weight);
    dhn_mac(&s[1].a, second, weight);
    weight = w[1];
    dhn_mac(&s[0].b, first, weight);
    dhn_mac(&s[1].b, second, weight);
    weight = w[2];
    dhn_mac(&s[0].c, first, weight);
    dhn_mac(&s[1].c, second, weight);
    weight = w[3];
    dhn_mac(&s[0].d, first, weight);
    dhn_mac(&s[1].d, second, weight);
}

DHN_INNER void multiply(const uint8_t *x, const uint8_t *w, int32_t count, four_t total[GROUP])
{
    four_t s[GROUP] = {total[0], total[1]};
    for (const uint8_t *const end = w + 4 * count; w != end; w += 16, x += 8) {
        step_group(x, w, s);
        step_group(x + 1, w + 4, s);
        step_group(x + 2, w + 8, s);
        step_group(x + 3, w + 12, s);
    }
    memcpy(total, s, sizeof s);
}

/* Copies a pixel's values as x + 128 into every other word and returns 128 times their sum, over `steps` (a multiple of 4) of which
 * `count` exist. */
static int32_t copy_biased(const int8_t *from, int32_t count, int32_t steps, uint8_t *to)
{
    uint32_t sum = 0;
    if (((uintptr_t)from & 3u) == 0u) {
        for (; count >= 4; count -= 4, steps -= 4, from += 4, to += 8) {
            uint32_t word;
            memcpy(&word, __builtin_assume_aligned(from, 4), 4);
            word ^= 0x80808080u;
            memcpy(__builtin_assume_aligned(to, 4), &word, 4);
            uint32_t const pairs = (word & 0x00FF00FFu) + ((word >> 8) & 0x00FF00FFu); /* two sums of at most 510 */
            sum += (pairs & 0xFFFFu) + (pairs >> 16);
        }
    }
    for (int32_t k = 0; k < steps; k++, to += ((k & 3) != 0) ? 1 : 5) {
        uint32_t const value = (k < count) ? (uint32_t)(from[k] + 128) : 0u;
        *to = (uint8_t)value;
        sum += value;
    }
    return (int32_t)(sum << 7);
}

/* `channels` of one pixel; the weights' last group may have more than there are. */
static inline void store(const dhn_output_t *o, const dhn_row_t *row, four_t s, int32_t less, int8_t *out,
                         int32_t channels)
{
    int32_t const acc[4] = {s.a - less, s.b - less, s.c - less, s.d - less};
    for (int32_t i = 0; i < channels; i++) {
        int32_t const y = dhn_scale(acc[i], row[i].multiplier, row[i].half, row[i].shift);
        out[i] = (int8_t)dhn_limit(y, o->low, o->high);
    }
}

/* All output channels of a group; `less` is what each pixel's values add too much. */
static void group_outputs(const dhn_conv_t *p, const dhn_io_t *io, int32_t steps, const int32_t less[GROUP],
                          int8_t *out, int32_t pixels)
{
    const uint8_t *w = io->consts + p->weight;
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    dhn_output_t const o = {p->act_min, p->act_max, p->out_c};
    for (int32_t c = 0; c < o.pitch; c += 4, row += 4, w += 4 * steps, out += 4) {
        four_t const start = {row[0].bias, row[1].bias, row[2].bias, row[3].bias};
        four_t s[GROUP] = {start, start};
        multiply(io->scratch, w, steps, s);
        int32_t const channels = (o.pitch - c < 4) ? o.pitch - c : 4;
        store(&o, row, s[0], less[0], out, channels);
        if (pixels > 1) {
            store(&o, row, s[1], less[1], out + o.pitch, channels);
        }
    }
}

dhn_kernel_fn dhn_conv_s8__xtensa;
void dhn_conv_s8__xtensa(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const total = p->out_h * p->out_w;
    int32_t const count = p->kh * p->kw * p->in_c, steps = (count + 3) & ~3;
    uint8_t *const words = io->scratch;
    int8_t *const window = (int8_t *)(words + GROUP * steps);
    dhn_place_t at = {0, 0};
    int8_t *out = io->out;
    for (int32_t i = 0; i < total; i += GROUP, out += GROUP * p->out_c) {
        int32_t less[GROUP] = {0, 0};
        int32_t const pixels = (total - i < GROUP) ? total - i : GROUP;
        for (int32_t j = 0; j < pixels; j++) {
            dhn_gather(p, io->in0, at, window);
            less[j] = copy_biased(window, count, steps, words + 4 * j);
            dhn_advance(p, &at, 1);
        }
        group_outputs(p, io, steps, less, out, pixels);
    }
}

dhn_kernel_fn dhn_conv_1x1_s8__xtensa;
void dhn_conv_1x1_s8__xtensa(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    int32_t const total = p->out_h * p->out_w, steps = (p->in_c + 3) & ~3;
    uint8_t *const words = io->scratch;
    dhn_place_t at = {0, 0};
    int8_t *out = io->out;
    for (int32_t i = 0; i < total; i += GROUP, out += GROUP * p->out_c) {
        int32_t less[GROUP] = {0, 0};
        int32_t const pixels = (total - i < GROUP) ? total - i : GROUP;
        for (int32_t j = 0; j < pixels; j++) {
            less[j] = copy_biased(dhn_corner(p, io->in0, at), p->in_c, steps, words + 4 * j);
            dhn_advance(p, &at, 1);
        }
        group_outputs(p, io, steps, less, out, pixels);
    }
}
