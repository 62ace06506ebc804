/* Fully connected, int8 weights in channel pairs: less than one instruction per product in long rows. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "dhn_kernels.h"
#include "dhn_requantize.h"
#include "fc_tile.h"

/* Scratch: one input row as int16, in the order 0 2 1 3 of every four that unpacking bytes gives, ending in zeros.
 *
 * Lead: a row is read as a whole before its outputs are written, so row r's outputs may reach up to input row r + 1. */

static void widen(const int8_t *in, int32_t n, int16_t *to, const int16_t *end)
{
    for (; n >= 4; n -= 4, in += 4, to += 4) {
        uint32_t const x = dhn_load32(in);
        dhn_store32(to, dhn_sxtb16(x));
        dhn_store32(to + 2, dhn_sxtb16_ror8(x));
    }
    for (int16_t *zero = to; zero != end; zero++) {
        *zero = 0;
    }
    for (int32_t i = 0; i < n; i++) {
        to[(i == 0) ? 0 : 3 - i] = in[i];
    }
}

/* An output that the fused arithmetic does not cover: a row of the table with round = 0 has the multiplier for a scale. */
DHN_RARE int8_t odd_output(const dhn_fc_row_t *t, const int16_t *w, const dhn_fused_t *row, bool second, int32_t shift)
{
    int32_t acc = row->bias;
    for (const int16_t *x = t->x; x != t->x_end; x++, w++) {
        int32_t const a = (int8_t)(*w & 0xFF);
        acc += *x * (second ? (*w - a) >> 8 : a);
    }
    int32_t const bounded = dhn_clamp(shift, -31, 30); /* a pack's byte may be anything */
    return dhn_clamp(dhn_requantize(acc, row->scale, bounded) + t->out_zp, INT8_MIN, INT8_MAX);
}

/* What the row of pairs leaves: odd channels, of which the record's reserved field tells, and the activation's limits. */
DHN_RARE void mend(const dhn_fc_t *p, const dhn_fc_row_t *t, const int8_t *shift, int8_t *out)
{
    int32_t const steps = (int32_t)(t->x_end - t->x);
    for (int32_t o = 0; o < p->out_c; o++) {
        if (t->row[o].round == 0) {
            out[o] = odd_output(t, t->w + o / 2 * steps, t->row + o, (o & 1) != 0, shift[o]);
        }
        out[o] = dhn_clamp(out[o], p->act_min, p->act_max);
    }
}

static void one_row(const dhn_fc_t *p, dhn_fc_row_t *t, int8_t *out)
{
    int8_t last[2];
    t->out = out;
    t->pairs = p->out_c / 2;
    if (t->pairs > 0) {
        dhn_fc_row(t);
    }
    if (p->out_c & 1u) { /* the last pair's second channel is padding */
        dhn_fc_row_t end = *t;
        end.w += t->pairs * (t->x_end - t->x);
        end.row += 2 * t->pairs;
        end.out = last;
        end.pairs = 1;
        dhn_fc_row(&end);
        out[p->out_c - 1] = last[0];
    }
}

/* Any row of inputs, any number of channels; weights are padded with zeros to whole pairs and steps. */
dhn_kernel_fn dhn_fc_pairs_s8__armv7em;
void dhn_fc_pairs_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    const int8_t *const shift = (const int8_t *)(io->consts + p->shift);
    int16_t *const x = io->scratch;
    const int8_t *in = io->in0;
    int8_t *out = io->out;
    dhn_fc_row_t t;
    t.x = x;
    t.x_end = x + (p->in_c + DHN_FC_STEP - 1) / DHN_FC_STEP * DHN_FC_STEP;
    t.row = (const void *)(io->consts + p->bias);
    t.w = (const void *)(io->consts + p->weight);
    t.out_zp = p->out_zp;

    for (int32_t row = 0; row < p->rows; row++, in += p->in_c, out += p->out_c) {
        widen(in, p->in_c, x, t.x_end);
        one_row(p, &t, out);
        if (p->reserved != 0u || p->act_min > INT8_MIN || p->act_max < INT8_MAX) {
            mend(p, &t, shift, out);
        }
    }
}
