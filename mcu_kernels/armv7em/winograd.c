/* 3x3 convolution, stride 1, by exact integer Winograd: F(4x4) takes 36 products for 16 outputs instead of 144, F(2x2) 16 for 4. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_2x2_tiles.h"
#include "winograd_4x4_tiles.h"

#include "portable/winograd_walk.h"

/* Transformed weights from the pack, of four output channels side by side. */
static void multiply(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    uint32_t const frequencies = (uint32_t)(w->side * w->side);
    const uint8_t *const u = io->consts + w->p->weight + (uint32_t)(o * w->in_c) * frequencies * 2u;
    dhn_wino_sums(w->slots, u, (uint32_t)w->in_c / 2u, w->slots + frequencies * w->at.step);
}

/* Weights transformed on the way, once per batch. */
static void multiply_lean(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    const int8_t *const weight = (const int8_t *)(io->consts + w->p->weight);
    for (int32_t i = 0; i < 2; i++) {
        dhn_wino4_weights(weight + (o + i) * 9 * w->in_c, w->slots + 16 + 4 * i, &w->at, (uint32_t)w->in_c / 4u);
    }
    dhn_wino_sums_inside(w->slots, (uint32_t)w->in_c / 2u, w->slots + DHN_WINO4_FREQUENCIES * w->at.step);
}

dhn_kernel_fn dhn_conv_winograd_4x4_s8__armv7em;

void dhn_conv_winograd_4x4_s8__armv7em(const void *params, const dhn_io_t *io)
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

dhn_kernel_fn dhn_conv_winograd_4x4_lean_s8__armv7em;

void dhn_conv_winograd_4x4_lean_s8__armv7em(const void *params, const dhn_io_t *io)
{
    static const batch_t batch = {
        dhn_wino4_columns,
        dhn_wino4_rows,
        dhn_wino4_outputs,
        multiply_lean,
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

dhn_kernel_fn dhn_conv_winograd_2x2_s8__armv7em;

void dhn_conv_winograd_2x2_s8__armv7em(const void *params, const dhn_io_t *io)
{
    static const batch_t batch = {
        dhn_wino2_columns,
        dhn_wino2_rows,
        dhn_wino2_outputs,
        multiply,
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
