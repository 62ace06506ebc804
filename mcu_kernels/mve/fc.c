/* Fully connected layer: each row of inputs meets eight channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "gemm.h"

/* Scratch: 8 int32 per tile, then a copy of the row up to whole vectors, which only in_c % 16 != 0 needs.
 *
 * Overlap: row n is written after it was read for the last time, and the next one starts at (n + 1) * in_c. */

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
    int8_t *const copy = (int8_t *)(g.acc + 8 * g.tiles);
    const int8_t *in = io->in0;
    int8_t *out = io->out;
    for (int32_t n = p->rows; n > 0; n--, in += p->in_c, out += p->out_c) {
        const int8_t *x = in;
        if (p->in_c % 16u != 0u) {
            memcpy(copy, in, p->in_c); /* what lies behind meets weights of zero */
            x = copy;
        }
        dots(&(dhn_mve_dots_t){x, x, g.weights, g.acc, 16 * g.blocks, g.tiles, 0, 1});
        dhn_mve_finish_1(&g, round, row, out);
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
