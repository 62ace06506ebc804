/* Depthwise convolution up to 3x3, stride 1 or 2: channels as planes, a gathered window for 2x2 outputs. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include "dhn_kernels.h"
#include "mve.h"

/* Eight channels at a time are scattered into planes with padding around them (scratch). There, one gather of a 4x4
 * window and four products with shifted copies of the kernel make four outputs of stride 1; stride 2 takes two
 * windows of 3x5 for two outputs each. At the right and lower end a block of 2x2 starts one earlier and computes
 * some outputs twice.
 *
 * Constants (layouts/mve.py), per channel: five zeros, 16 bytes with tap (y, x) at y * 4 + x (stride 2: y * 5 + x),
 * three zeros, so that a load d bytes earlier is the kernel moved by d lanes; then int32 folded bias, multiplier
 * and what the rounding needs.
 *
 * In place: all of a channel's inputs are in its plane before its first output is written, and outputs of a channel
 * lie where only this channel's inputs were. That needs all output rows in one go; otherwise bands of rows keep
 * planes small. */

enum { GROUP = 8, TAPS = 24, KERNEL_AT = 5, NUMBERS = 4 };
enum { DHN_MVE_BAND = 8 }; /* output rows, as in kernels.toml */

typedef struct {
    const dhn_conv_t *p;
    int32_t height, width; /* of a plane */
    bool whole;            /* all rows at once: what lies around the image never changes */
    int8_t *planes;
} planes_t;

/* Rows [top, top + height) of the padded image, for `count` channels from `in` on. */
static void fill(const planes_t *s, const int8_t *in, int32_t top, int32_t count)
{
    const dhn_conv_t *const p = s->p;
    int32_t const size = s->height * s->width;
    int32_t const depth = p->in_c;
    int32_t const room = s->width - p->pad_l;
    int32_t const columns = (room < p->in_w) ? room : p->in_w;
    mve_pred16_t const on = vctp16q((uint32_t)count);
    uint16x8_t const even = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)size);
    uint16x8_t const odd = vaddq_n_u16(even, 1);
    for (int32_t y = 0; y < s->height; y++) {
        int32_t const row = top + y - p->pad_t;
        if (row < 0 || row >= p->in_h) {
            for (int32_t c = 0; c < count && !s->whole; c++) {
                memset(s->planes + c * size + y * s->width, p->in_zp, (size_t)s->width);
            }
            continue;
        }
        const int8_t *from = in + row * p->in_w * depth;
        int8_t *to = s->planes + y * s->width + p->pad_l;
        int32_t x = columns;
        for (; x > 1; x -= 2, from += 2 * depth, to += 2) {
            vstrbq_scatter_offset_s16(to, even, vldrbq_z_s16(from, on));
            vstrbq_scatter_offset_s16(to, odd, vldrbq_z_s16(from + depth, on));
        }
        if (x > 0) {
            vstrbq_scatter_offset_s16(to, even, vldrbq_z_s16(from, on));
        }
    }
}

/* Where a block's window starts in the plane, and its outputs in the tensor, both from their first row's start. */
typedef struct {
    int32_t plane, out;
} place_t;

/* What all channels share. */
typedef struct {
    uint8x16_t window; /* offsets of a window's values */
    uint32x4_t where;  /* and of a block's outputs */
    const place_t *places;
    int32_t blocks;
    int32_t second_row; /* of a block's windows, stride 2 */
    int32_t zp, low, high;
} shape_t;

static shape_t shape_of(const planes_t *s, place_t *places, int32_t rows)
{
    const dhn_conv_t *const p = s->p;
    int32_t const columns = p->out_w;
    int32_t const lanes = (p->stride_w == 1u) ? 4 : 5;
    uint8_t window[16];
    uint32_t where[4];
    for (int32_t i = 0; i < 16; i++) {
        window[i] = (i / lanes < 4) ? (uint8_t)(i / lanes * s->width + i % lanes) : 0;
    }
    for (int32_t i = 0; i < 4; i++) {
        where[i] = (uint32_t)((i / 2 * columns + i % 2) * p->out_c);
    }
    shape_t k = {
        .window = vldrbq_u8(window),
        .where = vldrwq_u32(where),
        .places = places,
        .second_row = 2 * s->width,
        .zp = p->out_zp,
        .low = p->act_min,
        .high = p->act_max,
    };
    for (int32_t y = 0; y < rows; y += 2) {
        int32_t const top = (y < rows - 2) ? y : rows - 2;
        for (int32_t x = 0; x < columns; x += 2) {
            int32_t const left = (x < columns - 2) ? x : columns - 2;
            places->plane = (top * s->width + left) * p->stride_w;
            places->out = (top * columns + left) * p->out_c;
            places++;
            k.blocks++;
        }
    }
    return k;
}

/* A channel's numbers: folded bias, multiplier, and one or two for the rounding. */
typedef int32x4_t round_fn(const int32_t *n, int32x4_t acc);

DHN_MVE_INLINE int32x4_t fused(const int32_t *n, int32x4_t acc)
{
    return vqrdmulhq_n_s32(vqrdmulhq_n_s32(acc, n[1]), n[2]);
}

/* As dhn_mve_any in gemm.h; the shift is the same in all lanes. */
DHN_MVE_INLINE int32x4_t any(const int32_t *n, int32x4_t acc)
{
    int32x4_t const t = vqrdmulhq_n_s32(vshlq_r_s32(acc, n[2]), n[1]);
    int32x4_t const fix = vshrq_n_s32(vandq_s32(t, vdupq_n_s32(n[3])), 31);
    return vrshlq_n_s32(vaddq_s32(t, fix), n[3]);
}

/* `full`: outputs take the whole int8 range, so that saturation is the clamp. */
DHN_MVE_INLINE void store(const shape_t *s, bool full, int32x4_t y, int8_t *out)
{
    y = vaddq_n_s32(y, s->zp);
    if (full) {
        int16x8_t const h = dhn_mve_narrow16(y);
        y = vreinterpretq_s32_s8(dhn_mve_narrow8(h)); /* in the low byte of each lane */
    } else {
        y = vmaxq_s32(y, vdupq_n_s32(s->low));
        y = vminq_s32(y, vdupq_n_s32(s->high));
    }
    vstrbq_scatter_offset_s32(out, s->where, y);
}

DHN_MVE_INLINE void blocks_1(const shape_t *s, round_fn *round, bool full, const int8_t *plane, const int8_t *taps,
                             const int32_t *numbers, int8_t *out)
{
    int8x16_t const k00 = vldrbq_s8(taps);
    int8x16_t const k01 = vldrbq_s8(taps - 1);
    int8x16_t const k10 = vldrbq_s8(taps - 4);
    int8x16_t const k11 = vldrbq_s8(taps - 5);
    int32_t const n[4] = {numbers[0], numbers[1], numbers[2], numbers[3]};
    const place_t *at = s->places;
    for (int32_t i = s->blocks; i > 0; i--, at++) {
        int8x16_t const x = vldrbq_gather_offset_s8(plane + at->plane, s->window);
        int32x4_t const acc =
            dhn_mve_join(vmladavq_s8(x, k00), vmladavq_s8(x, k01), vmladavq_s8(x, k10), vmladavq_s8(x, k11));
        store(s, full, round(n, vaddq_n_s32(acc, n[0])), out + at->out);
    }
}

DHN_MVE_INLINE void blocks_2(const shape_t *s, round_fn *round, bool full, const int8_t *plane, const int8_t *taps,
                             const int32_t *numbers, int8_t *out)
{
    int8x16_t const k0 = vldrbq_s8(taps);
    int8x16_t const k1 = vldrbq_s8(taps - 2);
    int32_t const n[4] = {numbers[0], numbers[1], numbers[2], numbers[3]};
    const place_t *at = s->places;
    for (int32_t i = s->blocks; i > 0; i--, at++) {
        int8x16_t const x = vldrbq_gather_offset_s8(plane + at->plane, s->window);
        int8x16_t const y = vldrbq_gather_offset_s8(plane + at->plane + s->second_row, s->window);
        int32x4_t const acc =
            dhn_mve_join(vmladavq_s8(x, k0), vmladavq_s8(x, k1), vmladavq_s8(y, k0), vmladavq_s8(y, k1));
        store(s, full, round(n, vaddq_n_s32(acc, n[0])), out + at->out);
    }
}

DHN_MVE_INLINE void depthwise(const dhn_conv_t *p, const dhn_io_t *io, round_fn *round, int32_t band)
{
    int32_t const rows = (p->out_h < band) ? p->out_h : band;
    bool const full = p->act_min == INT8_MIN && p->act_max == INT8_MAX;
    int32_t const height = (rows - 1) * p->stride_h + 3;
    int32_t const width = (p->out_w - 1) * p->stride_w + 3;
    int32_t const size = height * width;
    place_t *const places = io->scratch;
    int8_t *const planes = (int8_t *)(places + (rows + 1) / 2 * ((p->out_w + 1) / 2));
    planes_t const s = {.p = p, .height = height, .width = width, .whole = rows == p->out_h, .planes = planes};
    shape_t const shape = shape_of(&s, places, rows);
    memset(planes, p->in_zp, (size_t)(GROUP * size));
    for (int32_t y = 0; y < p->out_h; y += rows) {
        int32_t const from = (y < p->out_h - rows) ? y : p->out_h - rows;
        const uint8_t *consts = io->consts + p->weight;
        int8_t *out = io->out + from * p->out_w * p->out_c;
        for (int32_t c = 0; c < p->in_c; c++, out++, consts += TAPS + 4 * NUMBERS) {
            if (c % GROUP == 0) {
                int32_t const left = p->in_c - c;
                fill(&s, io->in0 + c, from * p->stride_h, (left < GROUP) ? left : GROUP);
            }
            const int8_t *const taps = (const int8_t *)consts + KERNEL_AT;
            const int32_t *const numbers = (const void *)(consts + TAPS);
            const int8_t *const plane = planes + c % GROUP * size;
            if (p->stride_w == 2u) {
                blocks_2(&shape, round, false, plane, taps, numbers, out);
            } else if (full) {
                blocks_1(&shape, round, true, plane, taps, numbers, out);
            } else {
                blocks_1(&shape, round, false, plane, taps, numbers, out);
            }
        }
    }
}

static void depthwise_fused(const dhn_conv_t *p, const dhn_io_t *io, int32_t band)
{
    depthwise(p, io, fused, band);
}

static void depthwise_any(const dhn_conv_t *p, const dhn_io_t *io, int32_t band)
{
    depthwise(p, io, any, band);
}

dhn_kernel_fn dhn_depthwise_same_s8__mve;
void dhn_depthwise_same_s8__mve(const void *params, const dhn_io_t *io)
{
    depthwise_fused(params, io, 65535);
}

dhn_kernel_fn dhn_depthwise_same_any_s8__mve;
void dhn_depthwise_same_any_s8__mve(const void *params, const dhn_io_t *io)
{
    depthwise_any(params, io, 65535);
}

dhn_kernel_fn dhn_depthwise_s8__mve;
void dhn_depthwise_s8__mve(const void *params, const dhn_io_t *io)
{
    depthwise_fused(params, io, DHN_MVE_BAND);
}

dhn_kernel_fn dhn_depthwise_any_s8__mve;
void dhn_depthwise_any_s8__mve(const void *params, const dhn_io_t *io)
{
    depthwise_any(params, io, DHN_MVE_BAND);
}
