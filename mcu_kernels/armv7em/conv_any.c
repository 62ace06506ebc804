/* Convolutions with int8 weights for every exponent, activation range and number of channels. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "conv_walk.h"

/* A channel's row: for a right shift by e, `half` is 2^(e-1) and `sign` -1; for e = 0 both are 0. The host proves that
 * sums, shifted left, stay below 2^30: adding `half` does not overflow. */
typedef struct {
    int32_t bias, scale, half, sign;
    uint8_t left, right, unused[2];
} row_t;

static inline int32_t requantize(const dhn_group_t *g, const row_t *row, int32_t sum)
{
    int32_t const acc = (int32_t)((uint32_t)sum << row->left);
    int32_t const t = dhn_smmlar((uint32_t)acc, (uint32_t)row->scale, acc);
    int32_t const y = ((t + ((t >> 31) & row->sign) + row->half) >> row->right) + g->out_zp;
    return (y < g->act_min) ? g->act_min : ((y > g->act_max) ? g->act_max : y);
}

/* The last of an odd number of channels has a partner without weights, whose outputs are not stored. */
static void group(const dhn_group_t *g, int8_t *out, int32_t count)
{
    const row_t *row = (const void *)g->pair;
    const int8_t *w = g->weight;
    int32_t const pixels = (count < 3) ? count : 3;
    for (int32_t c = 0; c < g->out_c; c += 2, row += 2) {
        int32_t sums[6];
        w = dhn_sums_w8(g, w, row[0].bias, sums);
        int8_t *to = out + c;
        for (int32_t i = 0; i < pixels; i++, to += g->out_c) {
            to[0] = (int8_t)requantize(g, &row[0], sums[i]);
            if (c + 1 < g->out_c) {
                to[1] = (int8_t)requantize(g, &row[1], row[1].bias + dhn_second_sum(sums[3 + i], sums[i]));
            }
        }
    }
}

static const dhn_tile_t tile = {3, dhn_gather3, group};

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
