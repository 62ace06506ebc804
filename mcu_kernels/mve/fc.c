/* Fully connected layer: each row of inputs meets eight channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "gemm.h"

/* Scratch: sums of up to PART channels, then a copy of the row up to whole vectors, which only in_c % 16 != 0 needs.
 *
 * Overlap: a row is read for the last time when all but its last part of channels are written, which is row * out_c +
 * (out_c - 1) / PART * PART bytes; the next row starts at in_c. */

enum { PART = 128 }; /* as in kernels.toml */

DHN_MVE_INLINE void fc(const dhn_fc_t *p, const dhn_io_t *io, dhn_mve_round_fn *round, int32_t row)
{
    dhn_mve_gemm_t const g = {
        .weights = (const int8_t *)(io->consts + p->weight),
        .table = (const void *)(io->consts + p->bias),
        .acc = io->scratch,
        .blocks = (p->in_c + 15) / 16,
        .tiles = (p->out_c + 7) / 8,
        .out_c = p->out_c,
        .zp = p->out_zp,
        .low = p->act_min,
        .high = p->act_max,
    };
    dhn_mve_dots_fn *const dots = dhn_mve_dots_1x8(g.blocks);
    int8_t *const copy = (int8_t *)(g.acc + ((p->out_c < PART) ? 8 * g.tiles : PART));
    const int8_t *in = io->in0;
    int8_t *out = io->out;
    for (int32_t n = p->rows; n > 0; n--, in += p->in_c) {
        const int8_t *x = in;
        if (p->in_c % 16u != 0u) {
            x = memcpy(copy, in, p->in_c); /* what lies behind meets weights of zero */
        }
        dhn_mve_gemm_t part = g;
        for (int32_t left = p->out_c; left > 0; left -= PART, out += part.out_c) {
            part.out_c = (left < PART) ? left : PART;
            part.tiles = (part.out_c + 7) / 8;
            dots(&(dhn_mve_dots_t){x, x, part.weights, g.acc, 16 * g.blocks, part.tiles, 0, 1});
            dhn_mve_finish_1(&part, round, row, out);
            part.weights += PART / 8 * (32 + 128 * g.blocks);
            part.table += PART / 4 * row;
        }
    }
}

dhn_kernel_fn dhn_fc_s8__mve;
void dhn_fc_s8__mve(const void *params, const dhn_io_t *io)
{
    fc(params, io, dhn_mve_fused, DHN_MVE_FUSED_ROW);
}

dhn_kernel_fn dhn_fc_any_s8__mve;
void dhn_fc_any_s8__mve(const void *params, const dhn_io_t *io)
{
    fc(params, io, dhn_mve_any, DHN_MVE_ANY_ROW);
}
