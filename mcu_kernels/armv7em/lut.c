/* Any function of one int8 value by table, eight values per turn. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"

/* In place and at any lead: each value is read before anything is written at its place or behind. 3.6 instructions per
 * value. */
dhn_kernel_fn dhn_lut_s8__armv7em;
void dhn_lut_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_lut_t *const p = params;
    const int8_t *const table = (const int8_t *)(io->consts + p->table) + 128;
    const int8_t *in = io->in0;
    int8_t *out = io->out;
    uint32_t n = p->count;
    for (; n >= 8u; n -= 8u, in += 8, out += 8) {
#pragma GCC unroll 8
        for (int32_t i = 0; i < 8; i++) {
            out[i] = table[in[i]];
        }
    }
    for (; n > 0u; n--) {
        *out++ = table[*in++];
    }
}
