/* Convolutions with weights widened to int16 on the host: two pixels by two channels at a time. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "conv_walk.h"
#include "tile_w16.h"

static const dhn_tile_t tile = {2, 1, dhn_gather2, dhn_group_w16};

dhn_kernel_fn dhn_conv_w16_s8__armv7em;
void dhn_conv_w16_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_taps(&tile, params, io);
}

/* Any number of input channels. */
dhn_kernel_fn dhn_conv_bytes_w16_s8__armv7em;
void dhn_conv_bytes_w16_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_bytes(&tile, params, io);
}

dhn_kernel_fn dhn_conv_1x1_w16_s8__armv7em;
void dhn_conv_1x1_w16_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_pixels(&tile, params, io);
}
