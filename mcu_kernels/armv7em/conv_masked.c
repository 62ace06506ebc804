/* Convolutions that leave out input and output channels whose gates are shut, with int8 weights. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "conv_walk.h"
#include "tile_gated.h"

/* Weights are those of dhn_conv_s8__armv7em. Values are gathered less their zero point, so that the bias is not folded:
 * what a shut channel would have added to it need not be known. */

/* Open input channels that follow one another, at most DHN_RUN_QUADS quads. */
typedef struct {
    uint16_t first, quads;
} run_t;

typedef struct {
    const dhn_conv_t *p;
    const int8_t *in;
    uint32_t *buffer;
    const int8_t *zeros; /* a pixel of zero points */
    const run_t *run, *run_end;
    uint32_t minus; /* the zero point, negated, in both lanes */
} gate_walk_t;

/* Whether a channel is open; without gates all of them are. */
static bool is_open(const int8_t *gate, int32_t group, int32_t c)
{
    return group == 0 || gate[c / group] != 0;
}

static run_t *find_runs(const dhn_conv_masked_t *p, const int8_t *gate, run_t *run)
{
    for (int32_t c = 0; c < p->in_c;) {
        int32_t quads = 0;
        while (quads < DHN_RUN_QUADS && c + 4 * quads < p->in_c && is_open(gate, p->in_group, c + 4 * quads)) {
            quads++;
        }
        if (quads > 0) {
            *run++ = (run_t){(uint16_t)c, (uint16_t)quads};
        }
        c += (quads > 0) ? 4 * quads : 4;
    }
    return run;
}

/* Headers stay where they are while pixels come and go between them. */
static void place_headers(const gate_walk_t *g)
{
    uint32_t *to = g->buffer;
    uint32_t behind = 0; /* channels between the last run and this one, over all taps */
    for (int32_t tap = g->p->kh * g->p->kw; tap > 0; tap--) {
        uint32_t at = 0;
        for (const run_t *run = g->run; run != g->run_end; run++) {
            to[0] = 2u * (behind + run->first - at);
            to[1] = dhn_run_jump(run->quads);
            to += 2 + 6 * run->quads;
            at = run->first + 4u * run->quads;
            behind = 0;
        }
        behind += g->p->in_c - at;
    }
    to[0] = 2u * behind;
    to[1] = DHN_RUN_END;
}

static void gather(const gate_walk_t *g, const dhn_bounds_t *b, dhn_window_t first)
{
    const dhn_conv_t *const p = g->p;
    dhn_window_t const second = dhn_window_ahead(p, b, first, 1), third = dhn_window_ahead(p, b, second, 1);
    uint32_t *to = g->buffer;
    for (int32_t ky = 0; ky < p->kh * p->dilation_h; ky += p->dilation_h) {
        for (int32_t kx = 0; kx < p->kw * p->dilation_w; kx += p->dilation_w) {
            const int8_t *const from[3] = {dhn_tap(p, g->in, first.y + ky, first.x + kx, g->zeros),
                                           dhn_tap(p, g->in, second.y + ky, second.x + kx, g->zeros),
                                           dhn_tap(p, g->in, third.y + ky, third.x + kx, g->zeros)};
            for (const run_t *run = g->run; run != g->run_end; run++) {
                to = dhn_gather3_centred(to + 2, from, run->first, run->quads, g->minus);
            }
        }
    }
}

/* One group of output channels of up to three pixels. */
static void shut(const dhn_conv_masked_t *p, int8_t *out, int32_t channels, int32_t pixels)
{
    for (int32_t i = 0; i < 3 && i < pixels; i++) {
        memset(out + i * p->out_c, p->out_zp, (size_t)channels);
    }
}

static void put(const dhn_conv_masked_t *p, const dhn_group_t *whole, const int8_t *gate, int8_t *out, int32_t pixels)
{
    int32_t const each = p->out_group ? p->out_group : p->out_c, weights = p->kh * p->kw * p->in_c;
    for (int32_t o = 0; o < p->out_c;) {
        int32_t end = o + each;
        bool const open = is_open(gate, p->out_group, o);
        while (end < p->out_c && is_open(gate, p->out_group, end) == open) {
            end += each;
        }
        if (open) {
            dhn_group_t part = *whole;
            part.weight += o * weights;
            part.pair += o / 2;
            part.pair_end = whole->pair + end / 2;
            dhn_group_gated(&part, out + o, pixels);
        } else {
            shut(p, out + o, end - o, pixels);
        }
        o = end;
    }
}

dhn_kernel_fn dhn_conv_masked_s8__armv7em;
void dhn_conv_masked_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_conv_masked_t const copy = *(const dhn_conv_masked_t *)params, *const m = &copy;
    dhn_conv_t const conv = *(const dhn_conv_t *)params, *const p = &conv;
    static const dhn_tile_t tile = {3, 1, NULL, NULL};
    dhn_group_t const whole = dhn_walk_group(&tile, p, io, 0);
    run_t *const runs = io->scratch;
    int8_t *const zeros = (int8_t *)io->scratch + p->in_c;
    gate_walk_t g = {p, io->in0, (void *)(zeros + p->in_c), zeros, runs, NULL, 0};
    g.run_end = find_runs(m, io->in1, runs);
    g.minus = (uint32_t)(-p->in_zp & 0xFFFF) * 0x10001u;
    memset(zeros, p->in_zp, p->in_c);
    place_headers(&g);
    dhn_group_t group = whole;
    group.x = (const int16_t *)(const void *)g.buffer;
    const int8_t *const out_gate = io->in1 + (m->in_group ? m->in_c / m->in_group : 0);
    dhn_bounds_t const bounds = dhn_window_bounds(p, 3);
    dhn_window_t w = dhn_window_first(p);
    int8_t *out = io->out;
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 3, out += 3 * p->out_c) {
        gather(&g, &bounds, w);
        put(m, &group, out_gate, out, left);
        w = dhn_window_ahead(p, &bounds, w, 3);
    }
}
