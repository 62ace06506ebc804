/* Maximum over windows of 2x2 that lie inside the image, four channels at a time in bytes. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"
#include "dsp.h"

/* Lead: when channels c.. of output pixel (y, x) are written, what is still to be read begins at channel c + 4 of the first
 * pixel of that window, or at the next window. Without padding output pixel (y, x) lies above its window's first one only
 * where output rows are longer than the input rows of a stride. */

static inline uint32_t max_four(const int8_t *v, int32_t pixel, int32_t row)
{
    uint32_t const top = dhn_max_s8x4(dhn_load32(v), dhn_load32(v + pixel));
    uint32_t const bottom = dhn_max_s8x4(dhn_load32(v + row), dhn_load32(v + row + pixel));
    return dhn_max_s8x4(top, bottom);
}

static inline int32_t larger(int32_t a, int32_t b)
{
    return (a > b) ? a : b;
}

/* One window: 14 instructions for four outputs. */
static void window(const int8_t *v, int32_t channels, int32_t row, int8_t *out)
{
    int32_t c = 0;
#pragma GCC unroll 2
    for (; c + 4 <= channels; c += 4) {
        dhn_store32(out + c, max_four(v + c, channels, row));
    }
    for (; c < channels; c++) {
        const int8_t *const below = v + row + c;
        out[c] = (int8_t)larger(larger(v[c], v[c + channels]), larger(below[0], below[channels]));
    }
}

dhn_kernel_fn dhn_max_pool_2x2_s8__armv7em;
void dhn_max_pool_2x2_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_pool_t *const p = params;
    int32_t const row = p->in_w * p->c;
    const int8_t *line = io->in0;
    int8_t *out = io->out;
    for (int32_t y = 0; y < p->out_h; y++, line += p->stride_h * row) {
        const int8_t *v = line;
        for (int32_t x = 0; x < p->out_w; x++, v += p->stride_w * p->c, out += p->c) {
            window(v, p->c, row, out);
        }
    }
    if (p->act_min > INT8_MIN || p->act_max < INT8_MAX) {
        for (int8_t *o = io->out; o != out; o++) {
            *o = dhn_clamp(*o, p->act_min, p->act_max);
        }
    }
}
