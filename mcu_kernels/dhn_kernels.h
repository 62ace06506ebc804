/* The int8 kernels: one parameter structure per operator, shared by every architecture's implementation of it. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_KERNELS_H
#define DHN_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Tensors are int8, laid out (height, width, channel) with the channel innermost. A structure below is at the same time
 * the record in the pack: fields are ordered so that no padding arises, and `weight`, `bias`, `mult`, `shift` and
 * `table` are byte offsets from the start of the pack that holds the record (multiples of 4).
 *
 * A kernel reads its parameters and inputs, writes its output and, if its entry in kernels.toml says so, scratch. It
 * keeps no state, may be interrupted at any time, and may run on two stacks at once. The loader has checked every
 * offset and shape before the first call. In-place calls (out == in) are allowed where kernels.toml says so.
 *
 * Requantisation is TFLite's: real multiplier = mult * 2^(shift - 31), rounded twice (high half of the doubled product,
 * then the right shift, halves away from zero). */

typedef struct {
    const int8_t *in0;
    const int8_t *in1; /* binary operators; gates of masked ones */
    int8_t *out;
    void *scratch;         /* aligned to 4 */
    const uint8_t *consts; /* the pack: base of the offsets in the parameters */
} dhn_io_t;

typedef void dhn_kernel_fn(const void *params, const dhn_io_t *io);

/* Operators. A kernel id is (operator << 8) | variant; variant 0 is the portable reference. */
enum {
    DHN_OP_CONV = 1,
    DHN_OP_DEPTHWISE = 2,
    DHN_OP_FC = 3,
    DHN_OP_ADD = 4, /* and subtraction */
    DHN_OP_MUL = 5,
    DHN_OP_AVG_POOL = 6,
    DHN_OP_MAX_POOL = 7,
    DHN_OP_MEAN = 8,
    DHN_OP_LUT = 9,
    DHN_OP_SOFTMAX = 10,
    DHN_OP_COPY = 11,
    DHN_OP_FILL = 12,
    DHN_OP_ADD_TABLE = 13, /* addition of equal shapes, one operand by table */
    DHN_OP_CONV_MASKED = 14
};

/* Bytes that one call of a kernel reads or uses: constants in the order of the record's offsets, and scratch. */
enum { DHN_NEED_WEIGHT = 0, DHN_NEED_BIAS = 1, DHN_NEED_MULT = 2, DHN_NEED_SHIFT = 3, DHN_NEEDS = 4 };
typedef struct {
    int64_t constant[DHN_NEEDS];
    int64_t scratch;
} dhn_need_t;

/* Whether a kernel covers these parameters, which the loader has found sane for the operator. `need` holds what the
 * operator's reference needs; a kernel that needs something else says so. Written by the host from kernels.toml. */
typedef int dhn_fits_fn(const void *params, dhn_need_t *need);

typedef struct {
    uint16_t id;
    dhn_kernel_fn *run;
    dhn_fits_fn *fits; /* NULL: covers what the operator allows, as the reference does */
} dhn_kernel_t;

/* For the expressions of kernels.toml. */
static inline int64_t dhn_min64(int64_t a, int64_t b)
{
    return (a < b) ? a : b;
}

static inline int64_t dhn_max64(int64_t a, int64_t b)
{
    return (a > b) ? a : b;
}

/* Conv: weight int8 (out_c, kh, kw, in_c / groups). Depthwise: weight int8 (kh, kw, out_c), output channel o reads input
 * channel o / (out_c / in_c). bias int32, mult int32 and shift int8, each of out_c. kh*kw*in_c/groups <= 65,535 keeps the
 * accumulator in int32. Padded positions count as in_zp. */
#define DHN_CONV_FIELDS                                                                                                \
    uint16_t in_h, in_w, in_c;                                                                                         \
    uint16_t out_h, out_w, out_c;                                                                                      \
    uint16_t kh, kw;                                                                                                   \
    uint16_t stride_h, stride_w;                                                                                       \
    uint16_t dilation_h, dilation_w;                                                                                   \
    uint16_t pad_t, pad_l;                                                                                             \
    uint16_t groups;                                                                                                   \
    uint16_t reserved;                                                                                                 \
    int16_t in_zp, out_zp;                                                                                             \
    int16_t act_min, act_max;                                                                                          \
    uint32_t weight, bias, mult, shift

typedef struct {
    DHN_CONV_FIELDS;
} dhn_conv_t;

/* A convolution with groups == 1 that leaves out channels. `in_group` and `out_group` are how many channels one gate
 * opens or shuts, divisors of in_c and out_c; 0: this side has no gates, and both sides may not be without. in1 holds a
 * byte per gate, 0 shut, first those of the input. Shut input channels contribute nothing, as if they held in_zp; shut
 * output channels are real zero: out_zp, clamped. Its first fields are those of dhn_conv_t. */
typedef struct {
    DHN_CONV_FIELDS;
    uint16_t in_group, out_group;
} dhn_conv_masked_t;

/* Each of `rows` input rows of in_c values meets weight int8 (out_c, in_c). */
typedef struct {
    uint16_t rows, in_c, out_c, reserved;
    int16_t in_zp, out_zp;
    int16_t act_min, act_max;
    uint32_t weight, bias, mult, shift;
} dhn_fc_t;

/* out[i] over shape, with element strides per operand (0 broadcasts). Add and sub: both sides are brought to a common
 * scale (value - zp) << left_shift, multiplied, summed (b negated when `negate_b`), multiplied by out_mult.
 * Mul: (a - a_zp) * (b - b_zp) times out_mult; a_mult, b_mult and left_shift are unused. */
typedef struct {
    uint16_t shape[3];
    uint16_t negate_b;
    uint32_t a_stride[3];
    uint32_t b_stride[3];
    int16_t a_zp, b_zp, out_zp;
    int16_t act_min, act_max;
    int16_t left_shift;
    int32_t a_mult, a_shift;
    int32_t b_mult, b_shift;
    int32_t out_mult, out_shift;
} dhn_binary_t;

/* Addition or subtraction of `count` values each, one of which, y, is looked up: with sum = table[y as a byte] + x * factor,
 * int32 table of 256, modulo 2^32. Variant 0x40 makes out = sum >> 22, saturated to int8. Variant 0x41 requantises the sum:
 * its doubled high product with the multiplier that `scale` says (2 * mult - 2^32), then times `round` / 2^32, halves away
 * from zero, plus out_zp. x is in0 and y in1, or with `swap` the other way round. In place on either. */
typedef struct {
    uint32_t count;
    uint32_t table;
    int32_t factor;
    int32_t scale, round;
    int16_t out_zp;
    uint16_t swap;
} dhn_add_table_t;

/* Windows that reach over the border count only the pixels inside; every window holds at least one. */
typedef struct {
    uint16_t in_h, in_w, c;
    uint16_t out_h, out_w;
    uint16_t kh, kw;
    uint16_t stride_h, stride_w;
    uint16_t pad_t, pad_l;
    int16_t act_min, act_max;
    uint16_t reserved;
} dhn_pool_t;

/* Average over `pixels` positions of c channels, requantised in one step (1/pixels is part of mult). */
typedef struct {
    uint32_t pixels;
    uint16_t c, reserved;
    int16_t in_zp, out_zp;
    int32_t mult, shift;
} dhn_mean_t;

/* out[i] = table[in[i] + 128], int8 table of 256. In place allowed. */
typedef struct {
    uint32_t count;
    uint32_t table;
} dhn_lut_t;

/* Over rows of c values: table int32 of 256 holds exp(-diff * beta * scale) in Q0.31, indexed by max - value. */
typedef struct {
    uint16_t rows, c;
    uint32_t table;
} dhn_softmax_t;

/* Copies shape elements between strided places: concatenation, padding, cropping, transposition. */
typedef struct {
    uint16_t shape[3];
    uint16_t reserved;
    uint32_t in_stride[3];
    uint32_t out_stride[3];
} dhn_copy_t;

typedef struct {
    uint32_t count;
    int32_t value;
} dhn_fill_t;

/* ref: the specification, which every other kernel equals bit for bit. */
dhn_kernel_fn dhn_conv_s8__ref;
dhn_kernel_fn dhn_conv_masked_s8__ref;
dhn_kernel_fn dhn_depthwise_s8__ref;
dhn_kernel_fn dhn_fc_s8__ref;
dhn_kernel_fn dhn_add_s8__ref;
dhn_kernel_fn dhn_mul_s8__ref;
dhn_kernel_fn dhn_avg_pool_s8__ref;
dhn_kernel_fn dhn_max_pool_s8__ref;
dhn_kernel_fn dhn_mean_s8__ref;
dhn_kernel_fn dhn_lut_s8__ref;
dhn_kernel_fn dhn_softmax_s8__ref;
dhn_kernel_fn dhn_copy_s8__ref;
dhn_kernel_fn dhn_fill_s8__ref;

#ifdef __cplusplus
}
#endif

#endif
