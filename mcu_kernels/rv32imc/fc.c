/* Fully connected layers, two steps per product, for eight output channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "portable/fc_halves.h"

dhn_kernel_fn dhn_fc_s8__rv32imc;
void dhn_fc_s8__rv32imc(const void *params, const dhn_io_t *io)
{
    dhn_fc_halves(params, io, 2);
}
