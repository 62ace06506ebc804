/* Mean over all pixels: a vector of four channels runs over them. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "mve.h"

/* Rounds as dhn_mve_any in gemm.h does, with one multiplier and shift for all. */
static int32x4_t requantize(const dhn_mean_t *p, int32x4_t acc)
{
    int32_t const left = (p->shift > 0) ? p->shift : 0;
    int32_t const right = (p->shift > 0) ? 0 : p->shift;
    int32x4_t const t = vqrdmulhq_n_s32(vshlq_r_s32(acc, left), p->mult);
    int32x4_t const fix = vshrq_n_s32(vandq_s32(t, vdupq_n_s32(right)), 31);
    return vaddq_n_s32(vrshlq_n_s32(vaddq_s32(t, fix), right), p->out_zp);
}

dhn_kernel_fn dhn_mean_s8__mve;
void dhn_mean_s8__mve(const void *params, const dhn_io_t *io)
{
    const dhn_mean_t *const p = params;
    int32_t const zp = p->in_zp;
    uint32_t const zeros = p->pixels * (uint32_t)zp; /* modulo 2^32, as the sum */
    for (int32_t c = 0; c < p->c; c += 4) {
        mve_pred16_t const on = vctp32q((uint32_t)(p->c - c));
        int32x4_t acc = vdupq_n_s32((int32_t)(0u - zeros));
        const int8_t *v = io->in0 + c;
        for (uint32_t i = p->pixels; i > 0u; i--, v += p->c) {
            acc = vaddq_s32(acc, vldrbq_z_s32(v, on));
        }
        int32x4_t y = requantize(p, acc);
        y = vminq_s32(vmaxq_s32(y, vdupq_n_s32(INT8_MIN)), vdupq_n_s32(INT8_MAX));
        vstrbq_p_s32(io->out + c, y, on);
    }
}
