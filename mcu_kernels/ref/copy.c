/* Strided copies and constant fills: the specification of DHN_OP_COPY and DHN_OP_FILL. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dhn_kernels.h"

void dhn_copy_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_copy_t *const p = params;
    for (uint32_t y = 0; y < p->shape[0]; y++) {
        for (uint32_t x = 0; x < p->shape[1]; x++) {
            const int8_t *in = io->in0 + y * p->in_stride[0] + x * p->in_stride[1];
            int8_t *out = io->out + y * p->out_stride[0] + x * p->out_stride[1];
            for (uint32_t c = 0; c < p->shape[2]; c++, in += p->in_stride[2], out += p->out_stride[2]) {
                *out = *in;
            }
        }
    }
}

void dhn_fill_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_fill_t *const p = params;
    memset(io->out, (int)p->value, p->count);
}
