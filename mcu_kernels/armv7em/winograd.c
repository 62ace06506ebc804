/* 3x3 convolution, stride 1, by exact integer Winograd: F(4x4) takes 36 products for 16 outputs instead of 144, F(2x2) 16 for 4. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_2x2_tiles.h"
#include "winograd_4x4_tiles.h"

#include "portable/winograd_4x4_batches.h"

dhn_kernel_fn dhn_conv_winograd_4x4_s8__armv7em;

void dhn_conv_winograd_4x4_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run_4x4(params, io);
}

dhn_kernel_fn dhn_conv_winograd_4x4_lean_s8__armv7em;

void dhn_conv_winograd_4x4_lean_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run_4x4_lean(params, io);
}

static void multiply_2x2(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    multiply_packed(w, io, o, DHN_WINO2_SIDE * DHN_WINO2_SIDE);
}

dhn_kernel_fn dhn_conv_winograd_2x2_s8__armv7em;

void dhn_conv_winograd_2x2_s8__armv7em(const void *params, const dhn_io_t *io)
{
    static const batch_t batch = {
        dhn_wino2_columns,
        dhn_wino2_rows,
        dhn_wino2_outputs,
        multiply_2x2,
        sizeof(dhn_wino2_channel_t),
        2,
        2,
        1,
        4,
        16,
        4,
        8,
    };
    run(params, io, &batch);
}
