/* Fully connected layers, two steps per product, for four output channels at a time: 16 registers hold no more. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/fc_halves.h"

dhn_kernel_fn dhn_fc_s8__xtensa;
void dhn_fc_s8__xtensa(const void *params, const dhn_io_t *io)
{
    dhn_fc_halves(params, io, 1);
}
