/* Mean over all pixels, eight channels at a time in int16 lanes. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_requantize.h"
#include "window.h"

/* Lead 0: outputs c..c + 7 are written when these channels of all pixels have been read. */

static int8_t finish(const dhn_mean_t *p, int32_t sum)
{
    int32_t const centred = sum - (int32_t)p->pixels * p->in_zp;
    return dhn_clamp(dhn_requantize(centred, p->mult, p->shift) + p->out_zp, INT8_MIN, INT8_MAX);
}

dhn_kernel_fn dhn_mean_s8__armv7em;
void dhn_mean_s8__armv7em(const void *params, const dhn_io_t *io)
{
    const dhn_mean_t *const p = params;
    int8_t *const out = io->out;
    dhn_window_t const all = {io->in0, 1, (int32_t)p->pixels, p->c, 0};
    int32_t c = 0;
    for (; c + 8 <= p->c && p->pixels <= DHN_LANE_ADDENDS; c += 8) {
        dhn_lanes8_t const sums = dhn_window_sum(&all, c);
        for (int32_t i = 0; i < 8; i++) {
            out[c + i] = finish(p, dhn_lane_of(&sums, i));
        }
    }
    for (; c < p->c; c++) {
        out[c] = finish(p, dhn_window_sum_one(&all, c));
    }
}
