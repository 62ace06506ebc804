/* Any function of one int8 value by table, sixteen at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "mve.h"

dhn_kernel_fn dhn_lut_s8__mve;
void dhn_lut_s8__mve(const void *params, const dhn_io_t *io)
{
    const dhn_lut_t *const p = params;
    const int8_t *const table = (const int8_t *)(io->consts + p->table);
    const int8_t *in = io->in0;
    int8_t *out = io->out;
    uint32_t n = p->count;
    for (; n >= 16u; n -= 16u, in += 16, out += 16) {
        uint8x16_t const at = vaddq_n_u8(vreinterpretq_u8_s8(vldrbq_s8(in)), 128);
        vstrbq_s8(out, vldrbq_gather_offset_s8(table, at));
    }
    for (; n > 0u; n--) {
        *out++ = table[*in++ + 128];
    }
}
