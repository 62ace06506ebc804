/* Depthwise 3x3, stride 1 and 2, channels in multiples of 4: four channels at a time through bands of int16 lines. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "depthwise_expand.h"
#include "depthwise_tile.h"
#include "dhn_kernels.h"
#include "dhn_requantize.h"

/* Scratch: four planes, one per channel, of the input lines that a band of output lines needs, padded with the zero point;
 * then the four channels' constants. The lines that two bands share are moved up from one band to the next.
 *
 * In place, where input and output have the same size: all lines of four channels are finished before the next four begin,
 * and of these channels alone output line y overwrites input line y, which the band holds since before line y. */

enum { CHANNELS = 4, TAPS = 3 };

/* As the pack holds it: rows of (w0, w1, w2, extra). round = 0 marks a channel whose multiplier the fused arithmetic does
 * not cover: scale is then the multiplier and `extra` of row 0 the shift. */
typedef struct {
    int8_t w[TAPS][4];
    dhn_fused_t fused;
} weights_t;

/* What differs between the kernels below. */
typedef struct {
    int32_t stride;
    int32_t pitch; /* positions of a line in scratch */
    int32_t band;  /* output lines, an even number */
    int32_t plane; /* positions of a plane: the input lines of a band */
    dhn_depthwise_band_fn *tile;
    dhn_depthwise_expand_fn *expand;
} shape_t;

typedef struct {
    const dhn_conv_t *p;
    const int8_t *in;
    int8_t *out;
    int16_t *planes;
    dhn_depthwise_channel_t *channel;
    uint32_t zp_pair;
} job_t;

#define PLANE(stride, pitch, band) ((((band) - 1) * (stride) + TAPS) * (pitch))

static void fill_line(const shape_t *s, const job_t *j, int32_t n, int16_t *to)
{
    for (int32_t i = 0; i < n; i += 2, to += 2) {
        dhn_store32(to, j->zp_pair);
        dhn_store32(to + s->plane, j->zp_pair);
        dhn_store32(to + 2 * s->plane, j->zp_pair);
        dhn_store32(to + 3 * s->plane, j->zp_pair);
    }
}

/* Words are aligned, so a line that begins at an odd position has its first one alone. */
static void expand_lines(const shape_t *s, const int8_t *in, int32_t n, int32_t lines, int16_t *to, const dhn_conv_t *p)
{
    dhn_depthwise_lines_t t;
    t.in = in;
    t.step = p->in_c;
    t.to = to;
    t.line_step = p->in_w * p->in_c;
    t.lines = lines;
    int32_t const head = (((uintptr_t)to & 2u) != 0u && n > 0) ? 1 : 0;
    t.pair_bytes = ((n - head) & ~1) * (int32_t)sizeof(int16_t);
    t.singles = head + 2 * ((n - head) & 1);
    s->expand(&t);
}

static inline int32_t lower(int32_t a, int32_t b)
{
    return (a < b) ? a : b;
}

/* Lines first .. last - 1, counted from the upper padding, of which `at` is the place in a plane of line `first`. What lies
 * beside the image stays as it was filled. */
static void load_lines(const shape_t *s, const job_t *j, int32_t first, int32_t last, int16_t *to)
{
    const dhn_conv_t *const p = j->p;
    int32_t const pad = lower(p->pad_l, s->pitch);
    int32_t const n = lower(p->in_w, s->pitch - pad);
    int32_t const row = p->in_w * p->in_c;
    int32_t const bottom = p->pad_t + p->in_h;
    for (; first < last && first < p->pad_t; first++, to += s->pitch) {
        fill_line(s, j, pad + n, to);
    }
    if (first < last && first < bottom) {
        int32_t const lines = lower(last, bottom) - first;
        expand_lines(s, j->in + (first - p->pad_t) * row, n, lines, to + pad, p);
        first += lines;
        to += lines * s->pitch;
    }
    for (; first < last; first++, to += s->pitch) {
        fill_line(s, j, pad + n, to);
    }
}

typedef struct {
    uint32_t word[4];
} block_t; /* eight positions: loaded and stored by one instruction each */

/* The last lines of a full band become the first of the next. */
static void move_up(const shape_t *s, const job_t *j)
{
    int32_t const lines = TAPS - s->stride;
    int32_t const from = s->band * s->stride * s->pitch;
    int32_t const blocks = ((j->p->out_w - 1) * s->stride + TAPS + 7) / 8;
    for (int32_t c = 0; c < CHANNELS; c++) {
        for (int32_t k = 0; k < lines; k++) {
            block_t *const to = (void *)(j->planes + c * s->plane + k * s->pitch);
            const block_t *const last = (const void *)((const int16_t *)to + from);
            for (int32_t i = 0; i < blocks; i++) {
                to[i] = last[i];
            }
        }
    }
}

static void prepare(const weights_t *w, dhn_depthwise_channel_t *to)
{
    for (int32_t c = 0; c < CHANNELS; c++, w++, to++) {
        to->fused = w->fused;
        for (int32_t k = 0; k < TAPS; k++) {
            uint32_t const row = dhn_load32(w->w[k]);
            uint32_t const w02 = dhn_sxtb16(row), w1 = dhn_sxtb16_ror8(row);
            to->pair[2 * k] = dhn_pkhbt(w02, w1);
            to->pair[2 * k + 1] = (w02 & 0xFFFF0000u) | (w1 & 0xFFFFu);
        }
    }
}

/* A channel that the fused requantisation does not cover: `count` output lines. */
DHN_RARE void odd_channel(const shape_t *s, const dhn_depthwise_band_t *t, int32_t columns, int32_t count,
                          int32_t shift)
{
    int32_t const bounded = dhn_clamp(shift, -31, 30); /* a pack's byte may be anything */
    for (int32_t y = 0; y < count; y++) {
        for (int32_t x = 0; x < columns; x++) {
            const int16_t *in = t->in + (y * s->pitch + x) * s->stride;
            int32_t acc = t->bias[0];
            for (int32_t k = 0; k < TAPS; k++, in += s->pitch) {
                const uint32_t *const w = t->pair + 2 * k;
                acc += in[0] * dhn_lane0(w[0]) + in[1] * dhn_lane1(w[0]) + in[2] * dhn_lane1(w[1]);
            }
            int32_t const y8 = dhn_requantize(acc, t->scale, bounded) + t->out_zp;
            t->out[y * t->line_step + x * t->step] = dhn_clamp(y8, INT8_MIN, INT8_MAX);
        }
    }
}

static void fused_channel(const shape_t *s, dhn_depthwise_band_t *t, int32_t count)
{
    t->line_pairs = count / 2;
    if (t->line_pairs > 0) {
        s->tile(t);
    }
    if (count & 1) { /* the second line of the last pair goes where the first follows */
        int32_t const line_step = t->line_step;
        t->line_pairs = 1;
        t->in += (count - 1) * s->stride * s->pitch;
        t->end += (count - 1) * s->stride * s->pitch;
        t->out += (count - 1) * line_step;
        t->line_step = 0;
        s->tile(t);
        t->line_step = line_step;
    }
}

DHN_RARE void clamp_lines(const dhn_conv_t *p, int8_t *out, int32_t pixels)
{
    for (int32_t i = 0; i < pixels; i++, out += p->out_c) {
        for (int32_t c = 0; c < CHANNELS; c++) {
            out[c] = dhn_clamp(out[c], p->act_min, p->act_max);
        }
    }
}

/* Output lines y .. y + count - 1 of four channels, whose input lines are in the planes. */
static void band(const shape_t *s, const job_t *j, const weights_t *w, int32_t y, int32_t count)
{
    const dhn_conv_t *const p = j->p;
    int32_t const pairs = p->out_w & ~1;
    int8_t *const out = j->out + y * p->out_w * p->out_c;
    dhn_depthwise_band_t t;
    t.step = p->out_c;
    t.line_step = p->out_w * p->out_c;
    t.out_zp = p->out_zp;
    t.next_end = 2 * s->stride * s->pitch * (int32_t)sizeof(int16_t);
    t.next_in = t.next_end - pairs * s->stride * (int32_t)sizeof(int16_t);
    t.next_out = 2 * t.line_step - pairs * t.step;
    t.odd = p->out_w & 1;
    for (int32_t c = 0; c < CHANNELS; c++) {
        const dhn_depthwise_channel_t *const channel = j->channel + c;
        t.bias[0] = t.bias[1] = channel->fused.bias;
        t.scale = channel->fused.scale;
        t.round = channel->fused.round;
        t.pair = channel->pair;
        t.in = j->planes + c * s->plane;
        t.end = t.in + pairs * s->stride;
        t.out = out + c;
        if (t.round == 0) {
            odd_channel(s, &t, p->out_w, count, w[c].w[0][3]);
        } else {
            fused_channel(s, &t, count);
        }
    }
    if (p->act_min > INT8_MIN || p->act_max < INT8_MAX) {
        clamp_lines(p, out, count * p->out_w);
    }
}

static void four_channels(const shape_t *s, const job_t *j, const weights_t *w)
{
    int32_t const kept = TAPS - s->stride;
    prepare(w, j->channel);
    for (int32_t y = 0; y < j->p->out_h; y += s->band) {
        int32_t const left = j->p->out_h - y;
        int32_t const count = (left < s->band) ? left : s->band;
        if (y > 0) {
            move_up(s, j);
        }
        int32_t const have = (y == 0) ? 0 : kept;
        int32_t const top = y * s->stride;
        load_lines(s, j, top + have, top + (count - 1) * s->stride + TAPS, j->planes + have * s->pitch);
        band(s, j, w, y, count);
    }
}

static void run(const shape_t *s, const dhn_conv_t *p, const dhn_io_t *io)
{
    const weights_t *const w = (const void *)(io->consts + p->weight);
    job_t j = {p, io->in0, io->out, io->scratch, NULL, dhn_lanes(p->in_zp, p->in_zp)};
    j.channel = (void *)(j.planes + CHANNELS * s->plane);
    fill_line(s, &j, s->plane, j.planes);
    for (int32_t c = 0; c < p->in_c; c += CHANNELS) {
        four_channels(s, &j, w + c);
        j.in += CHANNELS;
        j.out += CHANNELS;
    }
}

static const shape_t s1_narrow = {1,
                                  DHN_DEPTHWISE_NARROW,
                                  14,
                                  PLANE(1, DHN_DEPTHWISE_NARROW, 14),
                                  dhn_depthwise_s1_narrow,
                                  dhn_depthwise_expand_s1_narrow};

static const shape_t s1_wide = {
    1, DHN_DEPTHWISE_WIDE, 4, PLANE(1, DHN_DEPTHWISE_WIDE, 4), dhn_depthwise_s1_wide, dhn_depthwise_expand_s1_wide};

static const shape_t s2_narrow = {2,
                                  DHN_DEPTHWISE_NARROW,
                                  4,
                                  PLANE(2, DHN_DEPTHWISE_NARROW, 4),
                                  dhn_depthwise_s2_narrow,
                                  dhn_depthwise_expand_s2_narrow};

static const shape_t s2_wide = {
    2, DHN_DEPTHWISE_WIDE, 2, PLANE(2, DHN_DEPTHWISE_WIDE, 2), dhn_depthwise_s2_wide, dhn_depthwise_expand_s2_wide};

/* Stride 1. `same`: over an image of the same size, in place. */
dhn_kernel_fn dhn_depthwise_3x3_same_narrow_s8__armv7em;
void dhn_depthwise_3x3_same_narrow_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(&s1_narrow, params, io);
}

dhn_kernel_fn dhn_depthwise_3x3_same_wide_s8__armv7em;
void dhn_depthwise_3x3_same_wide_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(&s1_wide, params, io);
}

dhn_kernel_fn dhn_depthwise_3x3_s1_s8__armv7em;
void dhn_depthwise_3x3_s1_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(&s1_wide, params, io);
}

dhn_kernel_fn dhn_depthwise_3x3_s2_narrow_s8__armv7em;
void dhn_depthwise_3x3_s2_narrow_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(&s2_narrow, params, io);
}

dhn_kernel_fn dhn_depthwise_3x3_s2_wide_s8__armv7em;
void dhn_depthwise_3x3_s2_wide_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(&s2_wide, params, io);
}
