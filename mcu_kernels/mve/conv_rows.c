/* Convolution of any kernel size: a strip of padded columns per output row, where every window is one run of bytes. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn_kernels.h"
#include "gemm.h"

/* The strip holds columns of kh * in_c bytes, padding included, so the window of output x is kw columns from column
 * x * stride_w on. Every input byte of an output row is copied kh times instead of kh * kw.
 *
 * Scratch: sums that wait for requantisation, then the strip and 16 bytes that its last window reads against
 * weights of zero.
 *
 * Overlap: row y is written after its strip was made, and the next strip reads input rows from (y + 1) * stride_h -
 * pad_t on. So out + (y + 1) * (output row) <= in0 + max(0, (y + 1) * stride_h - pad_t) * (input row) must hold for
 * every row but the last. That is linear in y on both sides of the point where padding ends: its largest value is
 * at this point, at the next row, or at the last but one, which is what kernels.toml takes. */

typedef struct {
    const dhn_conv_t *p;
    int8_t *bytes;
    int32_t column;        /* bytes of one */
    int32_t columns;       /* with padding */
    int32_t first, inside; /* columns of the image among them */
    int32_t together;      /* columns in a vector, if any fits */
    uint8x16_t where;      /* and the places of its bytes */
} strip_t;

static strip_t strip_of(const dhn_conv_t *p, int8_t *bytes)
{
    strip_t s = {.p = p, .bytes = bytes, .column = p->kh * p->in_c};
    s.columns = (p->out_w - 1) * p->stride_w + p->kw;
    int32_t const room = s.columns - p->pad_l;
    s.first = p->pad_l;
    s.inside = (room < p->in_w) ? room : p->in_w;
    s.together = 16 / p->in_c;
    uint8_t offsets[16] = {0};
    for (int32_t i = 0; i < 16 && s.together > 0; i++) {
        offsets[i] = (uint8_t)(i / p->in_c * s.column + i % p->in_c);
    }
    s.where = vldrbq_u8(offsets);
    return s;
}

/* Row ky of the image's columns, 16 channels at a time. */
static inline void copy_wide(const strip_t *s, const int8_t *in, int8_t *to)
{
    int32_t const depth = s->p->in_c;
    int32_t c = 0;
    for (; c + 16 <= depth; c += 16) {
        const int8_t *from = in + c;
        int8_t *at = to + c;
        for (int32_t x = s->inside; x > 0; x--, from += depth, at += s->column) {
            vstrbq_s8(at, vldrbq_s8(from));
        }
    }
    if (c < depth) {
        mve_pred16_t const on = vctp8q((uint32_t)(depth - c));
        const int8_t *from = in + c;
        int8_t *at = to + c;
        for (int32_t x = s->inside; x > 0; x--, from += depth, at += s->column) {
            vstrbq_p_s8(at, vldrbq_z_s8(from, on), on);
        }
    }
}

/* The same for less than 16 channels: whole columns of a vector are scattered at once. Offsets are below 256: at most
 * 15 / in_c columns of at most 15 * in_c bytes, and what lies in between. */
static inline void copy_narrow(const strip_t *s, const int8_t *in, int8_t *to)
{
    int32_t const bytes = s->together * s->p->in_c;
    int32_t const step = s->together * s->column;
    int32_t left = s->inside * s->p->in_c;
    for (; left >= 16; left -= bytes, in += bytes, to += step) { /* a byte too many is the next column's first */
        vstrbq_scatter_offset_s8(to, s->where, vldrbq_s8(in));
    }
    for (; left > 0; left -= bytes, in += bytes, to += step) {
        mve_pred16_t const on = vctp8q((uint32_t)((left < bytes) ? left : bytes));
        vstrbq_scatter_offset_p_s8(to, s->where, vldrbq_z_s8(in, on), on);
    }
}

/* Row ky of the image's columns lies outside of the image. */
static void pad_row(const strip_t *s, int8_t *to)
{
    for (int32_t x = s->inside; x > 0; x--, to += s->column) {
        memset(to, s->p->in_zp, s->p->in_c);
    }
}

static inline void make(const strip_t *s, const int8_t *in, int32_t y)
{
    const dhn_conv_t *const p = s->p;
    int32_t top = y * p->stride_h - p->pad_t;
    int8_t *to = s->bytes + s->first * s->column;
    for (int32_t ky = 0; ky < p->kh; ky++, top += p->dilation_h, to += p->in_c) {
        if (top < 0 || top >= p->in_h) {
            pad_row(s, to);
        } else if (p->in_c < 16u) {
            copy_narrow(s, in + top * p->in_w * p->in_c, to);
        } else {
            copy_wide(s, in + top * p->in_w * p->in_c, to);
        }
    }
}

DHN_MVE_INLINE void conv(const dhn_conv_t *p, const dhn_io_t *io, dhn_mve_round_fn *round, int32_t row)
{
    int32_t const taps = p->kh * p->kw * p->in_c;
    dhn_mve_gemm_t const g = {
        .weights = (const int8_t *)(io->consts + p->weight),
        .table = (const void *)(io->consts + p->bias),
        .acc = io->scratch,
        .blocks = (taps + 15) / 16,
        .tiles = (p->out_c + 3) / 4,
        .out_c = p->out_c,
        .zp = p->out_zp,
        .low = p->act_min,
        .high = p->act_max,
    };
    strip_t const s = strip_of(p, (int8_t *)(g.acc + 8 * dhn_mve_waiting(g.tiles)));
    int8_t *out = io->out;
    memset(s.bytes, p->in_zp, (size_t)(s.columns * s.column + 16));
    for (int32_t y = 0; y < p->out_h; y++) {
        make(&s, io->in0, y);
        dhn_mve_pixels(&g, round, row, s.bytes, p->stride_w * s.column, p->out_w, out);
        out += p->out_w * p->out_c;
    }
}

dhn_kernel_fn dhn_conv_rows_s8__mve;
void dhn_conv_rows_s8__mve(const void *params, const dhn_io_t *io)
{
    conv(params, io, dhn_mve_fused, DHN_MVE_FUSED_ROW);
}

dhn_kernel_fn dhn_conv_rows_any_s8__mve;
void dhn_conv_rows_any_s8__mve(const void *params, const dhn_io_t *io)
{
    conv(params, io, dhn_mve_any, DHN_MVE_ANY_ROW);
}
