/* Fully connected, int8 weights in channel pairs: about one instruction per product. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"
#include "fc_tile.h"

/* Scratch: one input row as int16, in the order 0 2 1 3 of every four that unpacking bytes gives, ending in zeros.
 *
 * Lead: a row is read as a whole before its outputs are written, so row r's outputs may reach up to input row r + 1. */

/* round = 0 marks a channel that the fused arithmetic does not cover: scale is then its multiplier. */
typedef struct {
    const dhn_fused_t *row;
    const int8_t *shift;
} channels_t;

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
        static const uint8_t place[3] = {0, 2, 1};
        to[place[i]] = in[i];
    }
}

static int8_t finish(const dhn_fc_t *p, const channels_t *c, int32_t o, int32_t sum)
{
    const dhn_fused_t *const row = c->row + o;
    int32_t const acc = sum + row->bias;
    int32_t const y = (row->round != 0) ? dhn_requantize_fused(acc, row->scale, row->round, p->out_zp)
                                        : dhn_requantize(acc, row->scale, dhn_clamp(c->shift[o], -31, 30)) + p->out_zp;
    return dhn_clamp(y, p->act_min, p->act_max);
}

/* Any row of inputs, any number of channels; weights are padded with zeros to whole pairs and steps. */
dhn_kernel_fn dhn_fc_pairs_s8__armv7em;
void dhn_fc_pairs_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    channels_t const c = {(const void *)(io->consts + p->bias), (const int8_t *)(io->consts + p->shift)};
    int16_t *const x = io->scratch;
    int32_t const steps = (p->in_c + DHN_FC_STEP - 1) / DHN_FC_STEP;
    const int16_t *const x_end = x + steps * DHN_FC_STEP;
    const int8_t *in = io->in0;
    int8_t *out = io->out;

    for (int32_t row = 0; row < p->rows; row++, in += p->in_c) {
        const int16_t *w = (const void *)(io->consts + p->weight);
        widen(in, p->in_c, x, x_end);
        for (int32_t o = 0; o < p->out_c; o += 2, w += steps * DHN_FC_STEP) {
            dhn_fc_pair_t const sums = dhn_fc_pair(x, w, x_end);
            *out++ = finish(p, &c, o, sums.a);
            if (o + 1 < p->out_c) {
                *out++ = finish(p, &c, o + 1, sums.b);
            }
        }
    }
}
