/* 3x3 convolution, stride 1, by exact integer Winograd F(4x4, 3x3): 36 products for 16 outputs instead of 144. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_4x4_scalar.h"

#include "winograd_4x4_batches.h"

dhn_kernel_fn dhn_conv_winograd_4x4_s8__portable;

void dhn_conv_winograd_4x4_s8__portable(const void *params, const dhn_io_t *io)
{
    run_4x4(params, io);
}
