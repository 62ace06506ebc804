/* Depthwise convolution with any channel multiplier: the specification of DHN_OP_DEPTHWISE. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

static int32_t window(const dhn_conv_t *p, const int8_t *in, const int8_t *weight, int32_t y0, int32_t x0)
{
    int32_t acc = 0;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        int32_t const y = y0 + ky * p->dilation_h;
        if (y < 0 || y >= p->in_h) {
            continue;
        }
        for (int32_t kx = 0; kx < p->kw; kx++) {
            int32_t const x = x0 + kx * p->dilation_w;
            if (x >= 0 && x < p->in_w) {
                acc += (in[(y * p->in_w + x) * p->in_c] - p->in_zp) * weight[(ky * p->kw + kx) * p->out_c];
            }
        }
    }
    return acc;
}

void dhn_depthwise_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_conv_t *const p = params;
    const int8_t *const weight = (const int8_t *)(io->consts + p->weight);
    const int32_t *const bias = (const void *)(io->consts + p->bias);
    const int32_t *const mult = (const void *)(io->consts + p->mult);
    const int8_t *const shift = (const int8_t *)(io->consts + p->shift);
    int32_t const multiplier = p->out_c / p->in_c;
    int8_t *out = io->out;

    for (int32_t y = 0; y < p->out_h; y++) {
        for (int32_t x = 0; x < p->out_w; x++) {
            for (int32_t o = 0; o < p->out_c; o++) {
                int32_t const acc = bias[o] + window(p, io->in0 + o / multiplier, weight + o,
                                                     y * p->stride_h - p->pad_t, x * p->stride_w - p->pad_l);
                *out++ = dhn_clamp(dhn_requantize(acc, mult[o], shift[o]) + p->out_zp, p->act_min, p->act_max);
            }
        }
    }
}
