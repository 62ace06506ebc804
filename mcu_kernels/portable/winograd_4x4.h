/* Exact integer Winograd F(4x4, 3x3): its arithmetic. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_4X4_H
#define DHN_WINOGRAD_4X4_H

#include "portable/winograd.h"

#define DHN_WINO4_FREQUENCIES 36
/* Column transforms of a window are [2 pairs][6 frequencies][10 columns]. */
#define DHN_WINO4_COLUMNS 10

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

/* Words hold two channels as H * 65536 + L, integers modulo 2^32, so that sums take shifted operands. A negative L would
 * take one from the upper lane: this constant, added to pixels (4,4), (4,5), (5,4), (5,5) of every tile's lower lane, adds
 * just itself to every frequency. Pixels are x + 128 in 0..255: every |V| is below 50 * 255 = 12,750, but frequency (1, 1)
 * in -32 * 255..68 * 255, so L is in 0..30,090 and H in -12,750..17,340. The host's table takes its effect back. */
#define DHN_WINO_LIFT 12750u

#endif
