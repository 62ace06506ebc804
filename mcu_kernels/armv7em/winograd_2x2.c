/* 3x3 convolution, stride 1, by exact integer Winograd F(2x2, 3x3): 16 products for 4 outputs instead of 36. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_2x2_tiles.h"

#include "portable/winograd_walk.h"

dhn_kernel_fn dhn_conv_winograd_2x2_s8__armv7em;

void dhn_conv_winograd_2x2_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(params, io, &one_window);
}
