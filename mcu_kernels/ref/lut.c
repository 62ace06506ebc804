/* Any function of one int8 value by table: the specification of DHN_OP_LUT. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"

void dhn_lut_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_lut_t *const p = params;
    const int8_t *const table = (const int8_t *)(io->consts + p->table) + 128;
    for (uint32_t i = 0; i < p->count; i++) {
        io->out[i] = table[io->in0[i]];
    }
}
