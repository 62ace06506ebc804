/* Mean over height and width with requantisation: the specification of DHN_OP_MEAN. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

void dhn_mean_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_mean_t *const p = params;
    for (uint32_t c = 0; c < p->c; c++) {
        int32_t acc = 0; /* 2^23 pixels of |value - zp| <= 255 fit */
        const int8_t *v = io->in0 + c;
        for (uint32_t i = 0; i < p->pixels; i++, v += p->c) {
            acc += *v - p->in_zp;
        }
        io->out[c] = dhn_clamp(dhn_requantize(acc, p->mult, p->shift) + p->out_zp, INT8_MIN, INT8_MAX);
    }
}
