/* Fully connected layers whose inputs are often zero: those that are zero are left out, exactly. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/scalar.h"

/* Order: a row of inputs is read as a whole before any of its outputs is written; the next rows are still to be read. */

/* An input less its zero point, and the bytes from a group's first weight to its own. Scratch holds one for every input. */
typedef struct {
    int32_t x;
    uint32_t weights;
} item_t;

enum { CHANNELS = 4 };

static const item_t *list_inputs(const dhn_fc_t *p, const int8_t *in, item_t *list)
{
    int32_t const zero = p->in_zp;
    uint32_t weights = 0;
    for (const int8_t *const end = in + p->in_c; in != end; in++, weights += CHANNELS) {
        int32_t const x = *in - zero;
        if (x != 0) {
            list->x = x;
            list->weights = weights;
            list++;
        }
    }
    return list;
}

static void one_row(const dhn_fc_t *p, const dhn_io_t *io, const item_t *list, const item_t *end, int8_t *out)
{
    dhn_output_t const o = {p->act_min, p->act_max, 1};
    const int8_t *w = (const int8_t *)(io->consts + p->weight);
    const dhn_row_t *row = (const void *)(io->consts + p->bias);
    for (int32_t left = p->out_c; left > 0; left -= CHANNELS, w += CHANNELS * p->in_c) {
        int32_t sum[CHANNELS] = {row[0].bias, row[1].bias, row[2].bias, row[3].bias};
        for (const item_t *i = list; i != end; i++) {
            dhn_step_quads(i->x, w + i->weights, sum);
        }
#pragma GCC unroll 4
        for (int32_t i = 0; i < CHANNELS; i++, row++) {
            if (i < left) {
                dhn_put(&o, row, sum[i], out++);
            }
        }
    }
}

dhn_kernel_fn dhn_fc_sparse_s8__portable;
void dhn_fc_sparse_s8__portable(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    for (int32_t row = 0; row < p->rows; row++) {
        const item_t *const end = list_inputs(p, io->in0 + row * p->in_c, io->scratch);
        one_row(p, io, io->scratch, end, io->out + row * p->out_c);
    }
}
