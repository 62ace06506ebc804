/* 3x3 convolution, stride 1, by Winograd F(4x4, 3x3) with weights transformed during the call: no flash beyond their own. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_4x4_scalar.h"

#include "winograd_walk.h"

/* Weights transformed on the way, once per batch. */
static void multiply(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    const int8_t *const weight = (const int8_t *)(io->consts + w->p->weight);
    for (int32_t i = 0; i < 2; i++) {
        dhn_wino4_weights(weight + (o + i) * 9 * w->in_c, w->slots + 16 + 4 * i, &w->at, (uint32_t)w->in_c / 4u);
    }
    dhn_wino_sums_inside(w->slots, (uint32_t)w->in_c / 2u, w->slots + DHN_WINO4_FREQUENCIES * w->at.step);
}

dhn_kernel_fn dhn_conv_winograd_4x4_lean_s8__portable;

void dhn_conv_winograd_4x4_lean_s8__portable(const void *params, const dhn_io_t *io)
{
    static const batch_t batch = {
        dhn_wino4_columns,
        dhn_wino4_rows,
        dhn_wino4_outputs,
        multiply,
        sizeof(dhn_wino4_channel_t),
        4,
        1,
        2,
        2,
        4,
        16,
        24,
    };
    run(params, io, &batch);
}
