/* What Winograd kernels of any tile size share; DHN_WINO_TILE, the outputs of a tile each way, is defined before. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_H
#define DHN_WINOGRAD_H

#include <stdbool.h>
#include <string.h>

#include "dhn_kernels.h"

/* Inputs of a tile each way, and as many frequencies. */
#define DHN_WINO_SIDE (DHN_WINO_TILE + 2)
/* Eight sums fit the registers: of one window (two tiles) and four output channels, which needs least scratch, or, where
 * weights are transformed during the call, of two windows and two output channels, so that this happens less often.
 * A slot per frequency, SIDE * vertical + horizontal, holds for each pair of input channels a word of each tile (and one of
 * each output channel where weights are transformed), then the sums, [2 tiles][4 output channels] or [2][4 tiles]. */
#define DHN_WINO_FREQUENCIES (DHN_WINO_SIDE * DHN_WINO_SIDE)
#define DHN_WINO_SUM_BYTES 32
/* A window is two tiles side by side; its column transforms are [2 pairs][SIDE frequencies][COLUMNS]. */
#define DHN_WINO_COLUMNS (2 * DHN_WINO_TILE + 2)

/* Bytes between slots (once, three and five times), between pairs of a slot, between the output's rows and pixels,
 * between the sums of neighbouring output channels; the end of the output channels that there are sums of. */
typedef struct {
    uint32_t step, step3, step5, pair_bytes;
    uint32_t row_bytes, pixel_bytes;
    int32_t out_zp;
    uint32_t channel_bytes;
    const void *end;
} dhn_wino_place_t;

/* Where columns are: bytes from a pixel to the one below and to the next column's. */
typedef struct {
    const int8_t *p;
    int32_t below, next;
} dhn_wino_columns_t;

#endif
