/* 1x1 convolution of any stride without padding: two pixels meet all channels, and are read where they lie. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include "dhn_kernels.h"
#include "gemm.h"

/* Scratch: sums that wait for requantisation, then a copied pixel, which only inputs with in_c % 16 != 0 need.
 *
 * Overlap: outputs are written in pairs of pixels (2n, 2n + 1) after both inputs have been read for the last time;
 * all later reads that matter are of input pixel 2n + 2 and behind (with a stride: further behind). Output bytes
 * below (2n + 2) * out_c are written by then, so out + (2n + 2) * (out_c - in_c) <= in0 is enough for every pair
 * but the last, and 2n + 2 is at most pixels - 1. A pair's second pixel is never written before the first one's
 * inputs were read. With in_c % 16 != 0 a pixel's vectors also read the beginning of later pixels, against weights
 * of zero. */

typedef struct {
    const int8_t *end; /* of the input */
    int8_t *copy;
    int32_t in_c, bytes; /* of a pixel, and rounded up to vectors */
} source_t;

/* A run of `count` pixels, `step` bytes apart. Those whose vectors would reach behind the input are read from
 * copies. */
DHN_MVE_INLINE void run(const dhn_mve_gemm_t *g, dhn_mve_round_fn *round, int32_t row, const source_t *s,
                        const int8_t *x, int32_t count, int32_t step, int8_t *out)
{
    int32_t const room = (int32_t)(s->end - x) - s->bytes;
    int32_t const fit = (room < 0) ? 0 : room / step + 1;
    int32_t const direct = (fit < count) ? fit : count;
    for (int32_t i = 0, n; i < count; i += n) {
        const int8_t *from = x + i * step;
        n = (i < direct) ? direct : 1;
        if (i >= direct) {
            from = memcpy(s->copy, from, (size_t)s->in_c);
        }
        dhn_mve_pixels(g, round, row, from, step, n, out + i * g->out_c);
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
        .copy = (int8_t *)(g.acc + 8 * dhn_mve_waiting(g.tiles)),
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
