/* 1x1 convolution of any stride without padding: two pixels meet all channels, and are read where they lie. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include "dhn_kernels.h"
#include "gemm.h"

/* Scratch: 8 int32 per tile, then two copied pixels, which only inputs with in_c % 16 != 0 need.
 *
 * Overlap: outputs are written in pairs of pixels (2n, 2n + 1) after both inputs have been read for the last time; all
 * later reads that matter are of input pixel 2n + 2 and behind (with a stride: further behind). Output bytes below
 * (2n + 2) * out_c are written by then, so out + (2n + 2) * (out_c - in_c) <= in0 is enough for every pair but the last,
 * and 2n + 2 is at most pixels - 1. A pair's second pixel is never written before the first one's inputs were read. With
 * in_c % 16 != 0 a pixel's vectors also read the beginning of later pixels, against weights of zero. */

typedef struct {
    const int8_t *end; /* of the input */
    int8_t *copies;
    int32_t in_c, bytes; /* of a pixel, and rounded up to vectors */
} source_t;

/* Where a pixel can be read up to whole vectors: in place, unless that would reach behind the input. */
static inline const int8_t *readable(const source_t *s, const int8_t *x, int32_t which)
{
    if (s->end - x >= s->bytes) {
        return x;
    }
    int8_t *const copy = s->copies + which * s->bytes;
    memcpy(copy, x, (size_t)s->in_c);
    return copy;
}

/* A run of `count` pixels, `step` bytes apart; the last of an odd run is computed twice. */
DHN_MVE_INLINE void run(const dhn_mve_gemm_t *g, dhn_mve_round_fn *round, int32_t row, const source_t *s,
                        const int8_t *x, int32_t count, int32_t step, int8_t *out)
{
    for (; count > 0; count -= 2, x += 2 * step, out += 2 * g->out_c) {
        bool const both = count > 1;
        const int8_t *const x0 = readable(s, x, 0);
        const int8_t *const x1 = both ? readable(s, x + step, 1) : x0;
        dhn_mve_pair(g, round, row, x0, x1, out, both ? out + g->out_c : out);
    }
}

DHN_MVE_INLINE void conv(const dhn_conv_t *p, const dhn_io_t *io, dhn_mve_round_fn *round, int32_t row)
{
    dhn_mve_gemm_t const g = {
        .weights = (const int8_t *)(io->consts + p->weight),
        .table = (const void *)(io->consts + p->bias),
        .acc = io->scratch,
        .blocks = (p->in_c + 15) / 16,
        .tiles = (p->out_c + 3) / 4,
        .out_c = p->out_c,
        .zp = p->out_zp,
        .low = p->act_min,
        .high = p->act_max,
    };
    source_t const s = {
        .end = io->in0 + p->in_h * p->in_w * p->in_c,
        .copies = (int8_t *)(g.acc + 8 * g.tiles),
        .in_c = p->in_c,
        .bytes = 16 * g.blocks,
    };
    /* Without a stride the whole image is one run. */
    bool const dense = p->stride_h == 1u && p->stride_w == 1u && p->out_w == p->in_w;
    int32_t const rows = dense ? 1 : p->out_h;
    int32_t const count = dense ? p->out_h * p->out_w : p->out_w;
    for (int32_t y = 0; y < rows; y++) {
        const int8_t *const x = io->in0 + y * p->stride_h * p->in_w * p->in_c;
        run(&g, round, row, &s, x, count, p->stride_w * p->in_c, io->out + y * count * g.out_c);
    }
}

dhn_kernel_fn dhn_conv_1x1_s8__mve;
void dhn_conv_1x1_s8__mve(const void *params, const dhn_io_t *io)
{
    conv(params, io, dhn_mve_fused, DHN_MVE_FUSED_ROW);
}

dhn_kernel_fn dhn_conv_1x1_any_s8__mve;
void dhn_conv_1x1_any_s8__mve(const void *params, const dhn_io_t *io)
{
    conv(params, io, dhn_mve_any, DHN_MVE_ANY_ROW);
}
