/* Convolution that leaves out groups of channels: the specification of DHN_OP_CONV_MASKED. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "dhn_requantize.h"

/* One gate's input channels, from `in` on, of every tap of the window at (top, left). */
static int32_t taps(const dhn_conv_masked_t *p, const int8_t *in, const int8_t *weight, int32_t top, int32_t left,
                    int32_t channels)
{
    int32_t acc = 0;
    for (int32_t tap = 0; tap < p->kh * p->kw; tap++) {
        int32_t const y = top + tap / p->kw * p->dilation_h, x = left + tap % p->kw * p->dilation_w;
        if (y < 0 || y >= p->in_h || x < 0 || x >= p->in_w) {
            continue;
        }
        const int8_t *const pixel = in + (y * p->in_w + x) * p->in_c;
        const int8_t *const w = weight + tap * p->in_c;
        for (int32_t c = 0; c < channels; c++) {
            acc += (pixel[c] - p->in_zp) * w[c];
        }
    }
    return acc;
}

/* The sum of one output channel over the open input channels. */
static int32_t window(const dhn_conv_masked_t *p, const int8_t *in, const int8_t *weight, const int8_t *gate, int32_t y,
                      int32_t x)
{
    int32_t const top = y * p->stride_h - p->pad_t, left = x * p->stride_w - p->pad_l;
    int32_t const each = p->in_group ? p->in_group : p->in_c;
    int32_t acc = 0;
    for (int32_t c = 0; c < p->in_c; c += each) {
        if (!p->in_group || gate[c / each]) {
            acc += taps(p, in + c, weight + c, top, left, each);
        }
    }
    return acc;
}

void dhn_conv_masked_s8__ref(const void *params, const dhn_io_t *io)
{
    const dhn_conv_masked_t *const p = params;
    const int8_t *const weight = (const int8_t *)(io->consts + p->weight);
    const int32_t *const bias = (const void *)(io->consts + p->bias);
    const int32_t *const mult = (const void *)(io->consts + p->mult);
    const int8_t *const shift = (const int8_t *)(io->consts + p->shift);
    const int8_t *const out_gate = io->in1 + (p->in_group ? p->in_c / p->in_group : 0);
    int8_t *out = io->out;
    for (int32_t y = 0; y < p->out_h; y++) {
        for (int32_t x = 0; x < p->out_w; x++) {
            for (int32_t o = 0; o < p->out_c; o++) {
                int32_t value = 0;
                if (!p->out_group || out_gate[o / p->out_group]) {
                    const int8_t *const w = weight + o * p->kh * p->kw * p->in_c;
                    value = dhn_requantize(bias[o] + window(p, io->in0, w, io->in1, y, x), mult[o], shift[o]);
                }
                *out++ = dhn_clamp(value + p->out_zp, p->act_min, p->act_max);
            }
        }
    }
}
