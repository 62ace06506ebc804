/* 3x3 convolution, stride 1, by exact integer Winograd F(4x4, 3x3): 36 products for 16 outputs instead of 144. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_4x4_scalar.h"

#include "winograd_walk.h"

/* Transformed weights from the pack, of four output channels side by side. */
static void multiply(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    const uint8_t *const u = io->consts + w->p->weight + (uint32_t)(o * w->in_c) * DHN_WINO4_FREQUENCIES * 2u;
    dhn_wino_sums(w->slots, u, (uint32_t)w->in_c / 2u, w->slots + DHN_WINO4_FREQUENCIES * w->at.step);
}

dhn_kernel_fn dhn_conv_winograd_4x4_s8__portable;

void dhn_conv_winograd_4x4_s8__portable(const void *params, const dhn_io_t *io)
{
    static const batch_t batch = {
        dhn_wino4_columns,
        dhn_wino4_rows,
        dhn_wino4_outputs,
        multiply,
        sizeof(dhn_wino4_channel_t),
        4,
        1,
        1,
        4,
        16,
        4,
        8,
    };
    run(params, io, &batch);
}
