/* Fully connected layers whose inputs are often zero: pairs of inputs that are both zero are left out, exactly. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"
#include "fc_sparse_tile.h"

/* Scratch: two dhn_nonzero_t for every four inputs. Their number is even, so an odd list always has room for one more.
 *
 * Lead: a row is read as a whole before its outputs are written, so row r's outputs may reach up to input row r + 1. */

static dhn_nonzero_t *keep(dhn_nonzero_t *list, uint32_t x, uint32_t weights)
{
    list->x = x;
    list->weights = weights;
    return list + (x != 0u);
}

/* The pairs of a row that differ from the zero point, as differences; lane 0 and 1 are inputs 4i and 4i + 2, or 4i + 1 and
 * 4i + 3, as unpacking bytes gives them. */
static dhn_nonzero_t *list_pairs(const dhn_fc_t *p, const int8_t *in, dhn_nonzero_t *list)
{
    uint32_t const zero = dhn_lanes(p->in_zp, p->in_zp);
    uint32_t const blank = ((uint32_t)p->in_zp & 0xFFu) * 0x01010101u;
    uint32_t weights = 0;
    int32_t n = p->in_c;
    for (; n >= 4; n -= 4, in += 4, weights += 2 * DHN_SPARSE_BYTES) {
        uint32_t const x = dhn_load32(in);
        if (x != blank) {
            list = keep(list, dhn_ssub16(dhn_sxtb16(x), zero), weights);
            list = keep(list, dhn_ssub16(dhn_sxtb16_ror8(x), zero), weights + DHN_SPARSE_BYTES);
        }
    }
    if (n > 0) { /* inputs beyond the last count as zero */
        list = keep(list, dhn_lanes(in[0] - p->in_zp, (n > 2) ? in[2] - p->in_zp : 0), weights);
    }
    if (n > 1) {
        list = keep(list, dhn_lanes(in[1] - p->in_zp, 0), weights + DHN_SPARSE_BYTES);
    }
    return list;
}

static inline int8_t output(const dhn_fc_t *p, const dhn_fused_t *row, int32_t acc)
{
    int32_t const sum = (int32_t)((uint32_t)row->bias + (uint32_t)acc);
    return (int8_t)dhn_requantize_fused(sum, row->scale, row->round, p->out_zp);
}

static void one_row(const dhn_fc_t *p, const dhn_io_t *io, const dhn_nonzero_t *list, const dhn_nonzero_t *end,
                    int8_t *out)
{
    int32_t const block_bytes = (p->in_c + 3) / 4 * 2 * DHN_SPARSE_BYTES;
    const int8_t *w = (const int8_t *)(io->consts + p->weight);
    const dhn_fused_t *row = (const void *)(io->consts + p->bias);
    for (int32_t left = p->out_c; left > 0; left -= DHN_SPARSE_CHANNELS, w += block_bytes, row += DHN_SPARSE_CHANNELS) {
        dhn_sparse_sums_t const sums = dhn_sparse_block(list, end, w);
        *out++ = output(p, row, sums.a);
        if (left > 1) {
            *out++ = output(p, row + 1, sums.b);
        }
        if (left > 2) {
            *out++ = output(p, row + 2, sums.c);
        }
        if (left > 3) {
            *out++ = output(p, row + 3, sums.d);
        }
    }
}

/* For activations narrower than int8. */
DHN_RARE void limit(const dhn_fc_t *p, int8_t *out)
{
    for (int32_t i = 0; i < p->out_c; i++) {
        out[i] = dhn_clamp(out[i], p->act_min, p->act_max);
    }
}

dhn_kernel_fn dhn_fc_sparse_s8__armv7em;
void dhn_fc_sparse_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    dhn_nonzero_t *const list = io->scratch;
    const int8_t *in = io->in0;
    int8_t *out = io->out;
    for (int32_t row = 0; row < p->rows; row++, in += p->in_c, out += p->out_c) {
        dhn_nonzero_t *end = list_pairs(p, in, list);
        if ((end - list) & 1) { /* the loop takes two at a time */
            end->x = 0;
            end->weights = 0;
            end++;
        }
        one_row(p, io, list, end, out);
        if (p->act_min > INT8_MIN || p->act_max < INT8_MAX) {
            limit(p, out);
        }
    }
}
