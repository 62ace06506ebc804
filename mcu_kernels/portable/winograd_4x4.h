/* Exact integer Winograd F(4x4, 3x3): its arithmetic, and what its loops share. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_4X4_H
#define DHN_WINOGRAD_4X4_H

#include <stdbool.h>
#include <string.h>

#include "dhn_kernels.h"

/* In one dimension, six values d of the input and three weights g give four outputs y of the correlation by
 *
 *   V = B d                    U = G g                     24 y = A (U V), written with the factors of its rows apart:
 *   4 d0 - 5 d2 + d4           3 g0                        y0 = 1 * (2 m0 - 4 m1 - 4 m2 + m3 + m4)
 *   d4 - 4 d2 + (d3 - 4 d1)    g0 + g1 + g2                y1 = 2 * (-2 m1 + 2 m2 + m3 - m4)
 *   d4 - 4 d2 - (d3 - 4 d1)    g0 - g1 + g2                y2 = 4 * (-m1 - m2 + m3 + m4)
 *   d4 - d2 + 2 (d3 - d1)      g0 + 2 g1 + 4 g2            y3 = 4 * (-m1 + m2 + 2 m3 - 2 m4 + 2 m5)
 *   d4 - d2 - 2 (d3 - d1)      g0 - 2 g1 + 4 g2
 *   4 d1 - 5 d3 + d5           3 g2
 *
 * all integers; in two dimensions the same along rows and along columns, and 576 y. |U| <= 49 * 128. Sums over channels
 * wrap modulo 2^32, which does no harm: 576 y fits. */

/* A slot per frequency, 6 * vertical + horizontal: for each pair of channels a word of four tiles each (and, where weights
 * are transformed during the call, a word of two output channels each), then the sums [2 output channels][4 tiles]. */
#define DHN_WINO_FREQUENCIES 36
#define DHN_WINO_SUM_BYTES 32
/* A window is two tiles side by side: ten columns; its column transforms are [2 pairs][6 frequencies][10 columns]. */
#define DHN_WINO_COLUMNS 10
/* Words hold two channels as H * 65536 + L, integers modulo 2^32, so that sums take shifted operands. A negative L would
 * take one from the upper lane: this constant, added to pixels (4,4), (4,5), (5,4), (5,5) of every tile's lower lane, adds
 * just itself to every frequency. Pixels are x + 128 in 0..255: every |V| is below 50 * 255 = 12,750, but frequency (1, 1)
 * in -32 * 255..68 * 255, so L is in 0..30,090 and H in -12,750..17,340. The host's table takes its effect back. */
#define DHN_WINO_LIFT 12750u

/* Bytes between slots (once, three and five times), between pairs of a slot, between the output's rows and pixels. */
typedef struct {
    uint32_t step, step3, step5, pair_bytes;
    uint32_t row_bytes, pixel_bytes;
    int32_t out_zp;
} dhn_wino_place_t;

/* Where columns are: bytes from a pixel to the one below and to the next column's. */
typedef struct {
    const int8_t *p;
    int32_t below, next;
} dhn_wino_columns_t;

#endif
