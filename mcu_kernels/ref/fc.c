/* Fully connected: the specification of DHN_OP_FC. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

void dhn_fc_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_fc_t *const p = params;
    const int32_t *const bias = (const void *)(io->consts + p->bias);
    const int32_t *const mult = (const void *)(io->consts + p->mult);
    const int8_t *const shift = (const int8_t *)(io->consts + p->shift);
    const int8_t *in = io->in0;
    int8_t *out = io->out;

    for (int32_t row = 0; row < p->rows; row++, in += p->in_c) {
        const int8_t *w = (const int8_t *)(io->consts + p->weight);
        for (int32_t o = 0; o < p->out_c; o++) {
            int32_t acc = bias[o];
            for (int32_t i = 0; i < p->in_c; i++) {
                acc += (in[i] - p->in_zp) * *w++;
            }
            *out++ = dhn_clamp(dhn_requantize(acc, mult[o], shift[o]) + p->out_zp, p->act_min, p->act_max);
        }
    }
}
