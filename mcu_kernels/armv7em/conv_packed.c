/* Convolutions with weights of four or two bits, packed: half or a quarter of the flash that int8 takes. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "conv_walk.h"
#include "tile_packed.h"

static const dhn_tile_t w4 = {3, 1, dhn_gather3, dhn_group_w4};
static const dhn_tile_t w2 = {3, 2, dhn_gather3, dhn_group_w2};

dhn_kernel_fn dhn_conv_w4_s8__armv7em;
void dhn_conv_w4_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_taps(&w4, params, io);
}

dhn_kernel_fn dhn_conv_bytes_w4_s8__armv7em;
void dhn_conv_bytes_w4_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_bytes(&w4, params, io);
}

dhn_kernel_fn dhn_conv_1x1_w4_s8__armv7em;
void dhn_conv_1x1_w4_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_pixels(&w4, params, io);
}

dhn_kernel_fn dhn_conv_w2_s8__armv7em;
void dhn_conv_w2_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_taps(&w2, params, io);
}

dhn_kernel_fn dhn_conv_bytes_w2_s8__armv7em;
void dhn_conv_bytes_w2_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_bytes(&w2, params, io);
}

dhn_kernel_fn dhn_conv_1x1_w2_s8__armv7em;
void dhn_conv_1x1_w2_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_pixels(&w2, params, io);
}
