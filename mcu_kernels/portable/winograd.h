/* What Winograd kernels of any tile size share: slots of transformed values, and what their loops are given. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_H
#define DHN_WINOGRAD_H

#include <stdbool.h>
#include <string.h>

#include "dhn_kernels.h"

/* A tile has T x T outputs, S = T + 2 inputs each way, and S x S frequencies. Eight sums fit the registers: of one window (two
 * tiles side by side) and four output channels, which needs least scratch, or, where weights are transformed during the
 * call, of two windows and two output channels, so that this happens less often. A slot per frequency, S * vertical +
 * horizontal, holds for each pair of input channels a word of each tile (and one of each output channel where weights are
 * transformed), then the sums, [2 tiles][4 output channels] or [2][4 tiles]. */
#define DHN_WINO_SUM_BYTES 32

/* Bytes between slots (once, three and five times), between pairs of a slot, between the output's rows and pixels,
 * between the sums of neighbouring output channels; the table's rows from which on there are no sums. */
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
