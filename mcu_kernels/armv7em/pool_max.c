/* Maximum pooling, eight channels at a time in bytes. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_requantize.h"
#include "window.h"

/* Lead: as in pool_avg.c. */

static void max_eight(const dhn_window_t *w, int32_t c, uint32_t best[2])
{
    const int8_t *row = w->at + c;
    uint32_t a = 0x80808080u, b = 0x80808080u;
    for (int32_t y = 0; y < w->rows; y++, row += w->row) {
        const int8_t *v = row;
        for (int32_t x = w->columns; x > 0; x--, v += w->pixel) {
            a = dhn_max_s8x4(a, dhn_load32(v));
            b = dhn_max_s8x4(b, dhn_load32(v + 4));
        }
    }
    best[0] = a;
    best[1] = b;
}

static int32_t max_one(const dhn_window_t *w, int32_t c)
{
    const int8_t *row = w->at + c;
    int32_t best = INT8_MIN;
    for (int32_t y = 0; y < w->rows; y++, row += w->row) {
        const int8_t *v = row;
        for (int32_t x = w->columns; x > 0; x--, v += w->pixel) {
            best = (*v > best) ? *v : best;
        }
    }
    return best;
}

static void clamp_eight(const dhn_pool_t *p, uint32_t best[2], int8_t *out)
{
    /* min(x, high) is ~max(~x, ~high) */
    uint32_t const low = (uint8_t)p->act_min * 0x01010101u;
    uint32_t const high = (uint8_t)p->act_max * 0x01010101u;
    for (int32_t i = 0; i < 2; i++) {
        dhn_store32(out + 4 * i, ~dhn_max_s8x4(~dhn_max_s8x4(best[i], low), ~high));
    }
}

static void maximum(const dhn_pool_t *p, const dhn_window_t *w, int8_t *out)
{
    uint32_t best[2];
    int32_t c = 0;
    for (; c + 8 <= p->c; c += 8) {
        max_eight(w, c, best);
        clamp_eight(p, best, out + c);
    }
    for (; c < p->c; c++) {
        out[c] = dhn_clamp(max_one(w, c), p->act_min, p->act_max);
    }
}

dhn_kernel_fn dhn_max_pool_s8__armv7em;
void dhn_max_pool_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_pool_t *const p = params;
    int8_t *out = io->out;
    for (int32_t y = 0; y < p->out_h; y++) {
        for (int32_t x = 0; x < p->out_w; x++, out += p->c) {
            dhn_window_t const w = dhn_window_at(p, io->in0, y, x);
            maximum(p, &w, out);
        }
    }
}
