/* 3x3 convolution, stride 1, by exact integer Winograd F(4x4, 3x3): 36 products for 16 outputs instead of 144. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_4x4_tiles.h"

#include "portable/winograd_walk.h"

/* Weights transformed on the way, once per batch. */
static void multiply_lean(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    const int8_t *const weight = (const int8_t *)(io->consts + w->p->weight);
    for (int32_t i = 0; i < 2; i++) {
        dhn_wino_weights(weight + (o + i) * 9 * w->in_c, w->slots + 16 + 4 * i, &w->at, (uint32_t)w->in_c / 4u);
    }
    dhn_wino_sums_inside(w->slots, (uint32_t)w->in_c / 2u, w->slots + DHN_WINO_FREQUENCIES * w->at.step);
}

dhn_kernel_fn dhn_conv_winograd_4x4_s8__armv7em;

void dhn_conv_winograd_4x4_s8__armv7em(const void *params, const dhn_io_t *io)
{
    run(params, io, &one_window);
}

dhn_kernel_fn dhn_conv_winograd_4x4_lean_s8__armv7em;

void dhn_conv_winograd_4x4_lean_s8__armv7em(const void *params, const dhn_io_t *io)
{
    static const batch_t batch = {multiply_lean, 2, 2, 4, 16, 24};
    run(params, io, &batch);
}
