/* How Winograd F(4x4, 3x3) works off batches, with weights transformed by the host or during the call. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_4X4_BATCHES_H
#define DHN_WINOGRAD_4X4_BATCHES_H

#include "portable/winograd_4x4.h"
#include "portable/winograd_walk.h"

/* The including file has the loops, dhn_wino4_channel_t and dhn_wino4_outputs. Not inline: GCC would copy the weights' transform
 * into the walk. */
#define DHN_WINO_PART static __attribute__((unused))

/* Transformed weights from the pack, of four output channels side by side, `frequencies` of each. */
static inline void multiply_packed(const wino_t *w, const dhn_io_t *io, int32_t o, uint32_t frequencies)
{
    const uint8_t *const u = io->consts + w->p->weight + (uint32_t)(o * w->in_c) * frequencies * 2u;
    dhn_wino_sums(w->slots, u, (uint32_t)w->in_c / 2u, w->slots + frequencies * w->at.step);
}

DHN_WINO_PART void multiply_4x4(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    multiply_packed(w, io, o, DHN_WINO4_FREQUENCIES);
}

/* Weights transformed on the way, once per batch. */
DHN_WINO_PART void multiply_4x4_lean(const wino_t *w, const dhn_io_t *io, int32_t o)
{
    const int8_t *const weight = (const int8_t *)(io->consts + w->p->weight);
    for (int32_t i = 0; i < 2; i++) {
        dhn_wino4_weights(weight + (o + i) * 9 * w->in_c, w->slots + 16 + 4 * i, &w->at, (uint32_t)w->in_c / 4u);
    }
    dhn_wino_sums_inside(w->slots, (uint32_t)w->in_c / 2u, w->slots + DHN_WINO4_FREQUENCIES * w->at.step);
}

/* One window by four output channels. */
DHN_WINO_PART void run_4x4(const dhn_conv_t *p, const dhn_io_t *io)
{
    static const batch_t batch = {
        dhn_wino4_columns,
        dhn_wino4_rows,
        dhn_wino4_outputs,
        multiply_4x4,
        sizeof(dhn_wino4_channel_t),
        4,
        1,
        1,
        4,
        16,
        4,
        8,
    };
    run(p, io, &batch);
}

/* Two windows by two output channels. */
DHN_WINO_PART void run_4x4_lean(const dhn_conv_t *p, const dhn_io_t *io)
{
    static const batch_t batch = {
        dhn_wino4_columns,
        dhn_wino4_rows,
        dhn_wino4_outputs,
        multiply_4x4_lean,
        sizeof(dhn_wino4_channel_t),
        4,
        1,
        2,
        2,
        4,
        16,
        24,
    };
    run(p, io, &batch);
}

#endif
