/* 3x3 convolution, stride 1, by Winograd F(4x4, 3x3) with weights transformed during the call: no flash beyond their own. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_4x4_scalar.h"

#include "winograd_4x4_batches.h"

dhn_kernel_fn dhn_conv_winograd_4x4_lean_s8__portable;

void dhn_conv_winograd_4x4_lean_s8__portable(const void *params, const dhn_io_t *io)
{
    run_4x4_lean(params, io);
}
