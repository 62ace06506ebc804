/* Convolutions with int8 weights for every exponent, activation range and number of channels. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "conv_walk.h"
#include "tile_w8.h"

/* A channel's row: for a right shift by e, `half` is 2^(e-1) and `sign` -1; for e = 0 both are 0. The host proves that
 * sums, shifted left, stay below 2^30: adding `half` does not overflow. */
typedef struct {
    int32_t bias, scale, half, sign;
    uint8_t left, right, unused[2];
} row_t;

/* Everything in registers: what a store might alias is read before. */
static inline void requantize3(const dhn_group_t *g, const row_t *row, int32_t y[3])
{
    int32_t const scale = row->scale, half = row->half, sign = row->sign, zero = g->out_zp;
    int32_t const low = g->act_min, high = g->act_max;
    uint32_t const left = row->left, right = row->right;
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        int32_t const acc = (int32_t)((uint32_t)y[i] << left);
        int32_t const t = dhn_smmlar((uint32_t)acc, (uint32_t)scale, acc);
        int32_t const out = ((t + (((t < 0) ? -1 : 0) & sign) + half) >> right) + zero;
        y[i] = (out < low) ? low : ((out > high) ? high : out);
    }
}

/* The last of an odd number of channels has a partner without weights, whose outputs are not stored. Pixels behind the
 * last one are stored where pixel 0 follows. */
static void group(const dhn_group_t *g, int8_t *out, int32_t count)
{
    const row_t *row = (const void *)g->pair;
    const int8_t *w = g->weight;
    int32_t const to1 = dhn_pixel_offset(g, 1, count), to2 = dhn_pixel_offset(g, 2, count);
    for (int8_t *const end = out + g->out_c; out < end; out += 2, row += 2) {
        int32_t sums[6];
        w = dhn_sums_w8(g, w, row[0].bias, sums);
        int32_t a[3] = {sums[0], sums[1], sums[2]}, b[3];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            b[i] = row[1].bias + dhn_second_sum(sums[3 + i], sums[i]);
        }
        requantize3(g, &row[0], a);
        requantize3(g, &row[1], b);
        out[to2] = (int8_t)a[2];
        out[to1] = (int8_t)a[1];
        out[0] = (int8_t)a[0];
        if (end - out > 1) {
            out[to2 + 1] = (int8_t)b[2];
            out[to1 + 1] = (int8_t)b[1];
            out[1] = (int8_t)b[0];
        }
    }
}

static const dhn_tile_t tile = {3, 1, dhn_gather3, group};

dhn_kernel_fn dhn_conv_any_s8__armv7em;
void dhn_conv_any_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_bytes(&tile, params, io);
}

dhn_kernel_fn dhn_conv_1x1_any_s8__armv7em;
void dhn_conv_1x1_any_s8__armv7em(const void *params, const dhn_io_t *io)
{
    dhn_walk_pixels(&tile, params, io);
}
