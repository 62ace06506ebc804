/* Depthwise 3x3, stride 1 and 2, channels in multiples of 4: four channels at a time through three int16 lines. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "depthwise_tile.h"
#include "dhn_kernels.h"
#include "dhn_requantize.h"

/* Scratch: a ring of three padded lines of four channels, then the four channels' constants. A line runs along the longer
 * side of the output, so that little is lost to its ends; the filter is stored transposed where that is the height.
 *
 * In place: all lines of four channels are finished before the next four begin, and output line y overwrites, of these
 * channels alone, input line y, which was expanded into the ring no later than for output line y itself. */

enum { CHANNELS = 4, LINES = 3 };

/* As the pack holds it: rows of (w0, w1, w2, extra). round = 0 marks a channel whose multiplier the fused arithmetic does
 * not cover: scale is then the multiplier and `extra` of row 0 the shift. */
typedef struct {
    int8_t w[LINES][4];
    int32_t bias, scale, round;
} weights_t;

/* The image as lines of positions, whichever of the two is the height. */
typedef struct {
    int32_t lines, positions;         /* of the input */
    int32_t line_step, step;          /* bytes from one line, one position, to the next */
    int32_t out_lines, out_positions; /* of the output */
    int32_t out_line_step, out_step;
    int32_t pad_line, pad;
    int32_t pitch; /* positions of a line in the ring */
    int32_t stride, zp;
} view_t;

static view_t view_of(const dhn_conv_t *p)
{
    int32_t const c = p->in_c;
    int32_t const in_row = p->in_w * c;
    int32_t const out_row = p->out_w * c;
    int32_t const s = p->stride_h;
    view_t v;
    if (p->out_h > p->out_w) {
        v = (view_t){p->in_w, p->in_h, c, in_row, p->out_w, p->out_h, c, out_row, p->pad_l, p->pad_t, 0, s, p->in_zp};
    } else {
        v = (view_t){p->in_h, p->in_w, in_row, c, p->out_h, p->out_w, out_row, c, p->pad_t, p->pad_l, 0, s, p->in_zp};
    }
    v.pitch = (v.out_positions + 1) / 2 * 2 * s + 2;
    return v;
}

static void fill(int16_t *to, int32_t count, int32_t value)
{
    uint32_t const pair = dhn_lanes(value, value);
    for (int32_t i = 0; i < count; i += 2) {
        dhn_store32(to + i, pair);
    }
}

static void expand_one(const int8_t *in, int16_t *to, int32_t pitch)
{
    for (int32_t c = 0; c < CHANNELS; c++) {
        to[c * pitch] = in[c];
    }
}

/* Four channels of `n` positions, each channel into a line of its own. 18 instructions for two positions. */
static void expand(const int8_t *in, int32_t step, int32_t n, int16_t *to, int32_t pitch)
{
    if (((uintptr_t)to & 2u) && n > 0) {
        expand_one(in, to, pitch);
        in += step, to++, n--;
    }
    int16_t *to2 = to + 2 * pitch;
    for (; n >= 2; n -= 2, in += 2 * step, to += 2, to2 += 2) {
        uint32_t const a = dhn_load32(in);
        uint32_t const b = dhn_load32(in + step);
        uint32_t const a02 = dhn_sxtb16(a), a13 = dhn_sxtb16_ror8(a);
        uint32_t const b02 = dhn_sxtb16(b), b13 = dhn_sxtb16_ror8(b);
        dhn_store32(to, dhn_pkhbt(a02, b02));
        dhn_store32(to + pitch, dhn_pkhbt(a13, b13));
        dhn_store32(to2, dhn_pkhtb(b02, a02));
        dhn_store32(to2 + pitch, dhn_pkhtb(b13, a13));
    }
    if (n > 0) {
        expand_one(in, to, pitch);
    }
}

/* Line k, counted from the upper padding, into its place in the ring. */
static void load_line(const view_t *v, const int8_t *in, int32_t k, int16_t *to)
{
    int32_t const line = k - v->pad_line;
    if (line < 0 || line >= v->lines) {
        fill(to, CHANNELS * v->pitch, v->zp);
        return;
    }
    int32_t const first = (v->pad < v->pitch) ? v->pad : v->pitch;
    int32_t const room = v->pitch - first;
    int32_t const n = (v->positions < room) ? v->positions : room;
    expand(in + line * v->line_step, v->step, n, to + first, v->pitch);
}

static void prepare(const weights_t *w, dhn_depthwise_channel_t *to)
{
    for (int32_t c = 0; c < CHANNELS; c++, w++, to++) {
        to->scale = w->scale;
        to->round = w->round;
        to->bias = w->bias;
        for (int32_t k = 0; k < LINES; k++) {
            to->pair[2 * k] = dhn_lanes(w->w[k][0], w->w[k][1]);
            to->pair[2 * k + 1] = dhn_lanes(w->w[k][1], w->w[k][2]);
        }
    }
}

/* A channel that the fused requantisation does not cover. */
static void odd_line(const dhn_depthwise_line_t *t, int32_t count, int32_t stride, int32_t shift)
{
    const uint32_t *const w = t->channel->pair;
    int8_t *out = t->out;
    shift = dhn_clamp(shift, -31, 30); /* a pack's byte may be anything */
    for (int32_t i = 0; i < count; i++, out += t->step) {
        int32_t acc = t->channel->bias;
        for (int32_t k = 0; k < LINES; k++) {
            const int16_t *const x = t->line[k] + i * stride;
            acc += x[0] * dhn_lane0(w[2 * k]) + x[1] * dhn_lane1(w[2 * k]) + x[2] * dhn_lane1(w[2 * k + 1]);
        }
        *out = dhn_clamp(dhn_requantize(acc, t->channel->scale, shift) + t->out_zp, INT8_MIN, INT8_MAX);
    }
}

static void even_line(dhn_depthwise_line_t *t, int32_t count, int32_t stride)
{
    int32_t const pairs = count & ~1;
    if (pairs > 0) {
        t->end = t->line[0] + pairs * stride;
        (stride == 1) ? dhn_depthwise_line_s1(t) : dhn_depthwise_line_s2(t);
    }
    if (count & 1) { /* both outputs of the last turn go to the same byte, the valid one last */
        for (int32_t k = 0; k < LINES; k++) {
            t->line[k] += pairs * stride;
        }
        t->end = t->line[0] + 2 * stride;
        t->out += pairs * t->step;
        t->step = 0;
        (stride == 1) ? dhn_depthwise_line_s1(t) : dhn_depthwise_line_s2(t);
    }
}

static void clamp_line(const view_t *v, int8_t *out, const dhn_conv_t *p)
{
    for (int32_t i = 0; i < v->out_positions; i++, out += v->out_step) {
        for (int32_t c = 0; c < CHANNELS; c++) {
            out[c] = dhn_clamp(out[c], p->act_min, p->act_max);
        }
    }
}

static void out_line(const view_t *v, const dhn_conv_t *p, const weights_t *w, const dhn_depthwise_channel_t *channel,
                     int16_t *const line[LINES], int8_t *out)
{
    for (int32_t c = 0; c < CHANNELS; c++) {
        dhn_depthwise_line_t t;
        t.step = v->out_step;
        t.out_zp = p->out_zp;
        t.channel = channel + c;
        t.out = out + c;
        for (int32_t k = 0; k < LINES; k++) {
            t.line[k] = line[k] + c * v->pitch;
        }
        if (w[c].round == 0) {
            odd_line(&t, v->out_positions, v->stride, w[c].w[0][3]);
        } else {
            even_line(&t, v->out_positions, v->stride);
        }
    }
    if (p->act_min > INT8_MIN || p->act_max < INT8_MAX) {
        clamp_line(v, out, p);
    }
}

static void four_channels(const view_t *v, const dhn_conv_t *p, const int8_t *in, const weights_t *w, int16_t *ring,
                          int8_t *out)
{
    int32_t const line_size = CHANNELS * v->pitch;
    int16_t *line[LINES] = {ring, ring + line_size, ring + 2 * line_size};
    dhn_depthwise_channel_t *const channel = (void *)(ring + LINES * line_size);
    prepare(w, channel);
    for (int32_t y = 0; y < v->out_lines; y++) {
        for (int32_t k = (y == 0) ? 0 : LINES - v->stride; k < LINES; k++) {
            load_line(v, in, y * v->stride + k, line[k]);
        }
        out_line(v, p, w, channel, line, out + y * v->out_line_step);
        int16_t *const oldest[2] = {line[0], line[1]};
        for (int32_t k = 0; k < LINES; k++) { /* the ring turns by the stride */
            line[k] = (k + v->stride < LINES) ? line[k + v->stride] : oldest[k + v->stride - LINES];
        }
    }
}

static void run(const dhn_conv_t *p, const dhn_io_t *io)
{
    view_t const v = view_of(p);
    const weights_t *const w = (const void *)(io->consts + p->weight);
    int16_t *const ring = io->scratch;
    fill(ring, LINES * CHANNELS * v.pitch, v.zp); /* the padding at both ends of a line stays */
    for (int32_t c = 0; c < p->in_c; c += CHANNELS) {
        four_channels(&v, p, io->in0 + c, w + c, ring, io->out + c);
    }
}

/* Stride 1 over an image of the same size: in place. */
dhn_kernel_fn dhn_depthwise_3x3_same_s8__armv7em;
void dhn_depthwise_3x3_same_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(params, io);
}

/* Any size, stride 1 or 2. */
dhn_kernel_fn dhn_depthwise_3x3_s8__armv7em;
void dhn_depthwise_3x3_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(params, io);
}
