/* Checks the operands and parameters of one instruction, so that its kernel can run without checks. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"

/* Bytes that an operator touches. Zero: the operand is not used. */
typedef struct {
    uint64_t in0, in1, out;
    int64_t scratch;
} extent_t;

static bool constant(const dhn_space_t *space, uint32_t offset, uint64_t bytes)
{
    return (offset & 3u) == 0u && offset >= sizeof(dhn_header_t) && dhn_inside(offset, bytes, space->pack_bytes);
}

static bool readable(const dhn_space_t *space, uint32_t ref, uint64_t bytes)
{
    uint32_t const offset = ref & ~DHN_REF_CONST;
    if (ref & DHN_REF_CONST) {
        return dhn_inside(offset, bytes, space->pack_bytes);
    }
    return dhn_inside(offset, bytes, space->arena_bytes);
}

static bool writable(const dhn_space_t *space, uint32_t ref, uint64_t bytes)
{
    return !(ref & DHN_REF_CONST) && dhn_inside(ref, bytes, space->arena_bytes);
}

static bool int8_range(int32_t low, int32_t high)
{
    return low >= INT8_MIN && low <= high && high <= INT8_MAX;
}

static bool shift_ok(int32_t shift)
{
    return shift >= -31 && shift <= 30;
}

static bool multiplier_ok(int32_t mult, int32_t shift)
{
    return mult != INT32_MIN && shift_ok(shift);
}

/* Constants of a conv or fully connected layer: what TFLite's tables need, unless the kernel needs something else. */
static bool channels_ok(const dhn_space_t *s, const void *params, uint64_t weights, uint32_t n,
                        const uint32_t at[DHN_NEEDS], dhn_fits_fn *fits, extent_t *x)
{
    dhn_need_t need = {{(int64_t)weights, 4ll * n, 4ll * n, n}, 0};
    if (fits != NULL && !fits(params, &need)) {
        return false;
    }
    for (uint32_t i = 0; i < DHN_NEEDS; i++) {
        if (need.constant[i] != 0 && (need.constant[i] < 0 || !constant(s, at[i], (uint64_t)need.constant[i]))) {
            return false;
        }
    }
    x->scratch = need.scratch;
    if (need.constant[DHN_NEED_MULT] == 0) {
        return true; /* multipliers lie in a table of the kernel's own, in which every number will do */
    }
    const int32_t *const m = (const void *)(s->pack + at[DHN_NEED_MULT]);
    const int8_t *const e = (const int8_t *)(s->pack + at[DHN_NEED_SHIFT]);
    for (uint32_t i = 0; i < n; i++) {
        if (!multiplier_ok(m[i], e[i])) {
            return false;
        }
    }
    return need.constant[DHN_NEED_SHIFT] != 0;
}

/* A kernel without constants of its own kind: its condition and its scratch. */
static bool fits_plain(const void *params, dhn_fits_fn *fits, extent_t *x)
{
    dhn_need_t need = {{0, 0, 0, 0}, 0};
    bool const ok = fits == NULL || fits(params, &need);
    x->scratch = need.scratch;
    return ok;
}

/* Keeps every pixel coordinate that a window can name far inside int32. Real layers stay within it: a window starts at
 * most one kernel before the image and 65,535 behind it. */
static bool reach_ok(uint32_t out, uint32_t stride, uint32_t kernel, uint32_t dilation, uint32_t in, uint32_t pad)
{
    return (uint64_t)(out - 1u) * stride <= (uint64_t)in + pad + 65535u && (uint64_t)kernel * dilation <= 131072u;
}

static bool conv_ok(const dhn_space_t *s, const dhn_conv_t *p, bool depthwise, dhn_fits_fn *fits, extent_t *x)
{
    if (!p->in_h || !p->in_w || !p->in_c || !p->out_h || !p->out_w || !p->out_c || !p->kh || !p->kw || !p->stride_h ||
        !p->stride_w || !p->dilation_h || !p->dilation_w || !p->groups) {
        return false;
    }
    if (p->in_c % p->groups || p->out_c % p->groups || (depthwise && p->out_c % p->in_c)) {
        return false;
    }
    uint64_t const depth = depthwise ? 1u : (uint64_t)p->in_c / p->groups;
    uint64_t const filter = (uint64_t)p->kh * p->kw * depth;
    if (filter > 65535u || !int8_range(p->act_min, p->act_max) || !int8_range(p->in_zp, p->in_zp) ||
        !int8_range(p->out_zp, p->out_zp)) {
        return false;
    }
    if (!reach_ok(p->out_h, p->stride_h, p->kh, p->dilation_h, p->in_h, p->pad_t) ||
        !reach_ok(p->out_w, p->stride_w, p->kw, p->dilation_w, p->in_w, p->pad_l)) {
        return false;
    }
    x->in0 = (uint64_t)p->in_h * p->in_w * p->in_c;
    x->out = (uint64_t)p->out_h * p->out_w * p->out_c;
    const uint32_t at[DHN_NEEDS] = {p->weight, p->bias, p->mult, p->shift};
    return channels_ok(s, p, filter * p->out_c, p->out_c, at, fits, x);
}

static bool gates_ok(uint32_t channels, uint32_t group)
{
    return group == 0u || channels % group == 0u;
}

/* Gates of both sides, a byte each. The first fields are a convolution's. */
static bool conv_masked_ok(const dhn_space_t *s, const dhn_conv_masked_t *p, dhn_fits_fn *fits, extent_t *x)
{
    if ((p->in_group == 0u && p->out_group == 0u) || !gates_ok(p->in_c, p->in_group) ||
        !gates_ok(p->out_c, p->out_group) || p->groups != 1u) {
        return false;
    }
    x->in1 = (p->in_group ? (uint32_t)(p->in_c / p->in_group) : 0u) +
             (p->out_group ? (uint32_t)(p->out_c / p->out_group) : 0u);
    return conv_ok(s, (const void *)p, false, fits, x);
}

static bool fc_ok(const dhn_space_t *s, const dhn_fc_t *p, dhn_fits_fn *fits, extent_t *x)
{
    x->in0 = (uint64_t)p->rows * p->in_c;
    x->out = (uint64_t)p->rows * p->out_c;
    const uint32_t at[DHN_NEEDS] = {p->weight, p->bias, p->mult, p->shift};
    return p->rows && p->in_c && p->out_c && int8_range(p->act_min, p->act_max) && int8_range(p->in_zp, p->in_zp) &&
           int8_range(p->out_zp, p->out_zp) && channels_ok(s, p, (uint64_t)p->in_c * p->out_c, p->out_c, at, fits, x);
}

/* One past the last element that a strided walk over `shape` touches. */
static uint64_t strided(const uint16_t shape[3], const uint32_t stride[3])
{
    uint64_t last = 0;
    for (int i = 0; i < 3; i++) {
        last += (uint64_t)(shape[i] - 1u) * stride[i]; /* 3 * 2^16 * 2^32 fits */
    }
    return last + 1u;
}

static bool shape_ok(const uint16_t shape[3])
{
    return shape[0] && shape[1] && shape[2];
}

static bool binary_ok(const dhn_binary_t *p, bool add, extent_t *x)
{
    if (!shape_ok(p->shape) || !int8_range(p->act_min, p->act_max) || !int8_range(p->a_zp, p->a_zp) ||
        !int8_range(p->b_zp, p->b_zp) || !int8_range(p->out_zp, p->out_zp) ||
        !multiplier_ok(p->out_mult, p->out_shift)) {
        return false;
    }
    if (add && (p->left_shift < 0 || p->left_shift > 20 || !multiplier_ok(p->a_mult, p->a_shift) ||
                !multiplier_ok(p->b_mult, p->b_shift))) {
        return false;
    }
    x->in0 = strided(p->shape, p->a_stride);
    x->in1 = strided(p->shape, p->b_stride);
    x->out = (uint64_t)p->shape[0] * p->shape[1] * p->shape[2];
    return true;
}

/* Every window must hold a pixel, or an average would divide by zero. */
static bool windows_hold(uint32_t out, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t in)
{
    return out && kernel && stride && in && pad < kernel && (uint64_t)(out - 1u) * stride < (uint64_t)in + pad;
}

static bool pool_ok(const dhn_pool_t *p, extent_t *x)
{
    x->in0 = (uint64_t)p->in_h * p->in_w * p->c;
    x->out = (uint64_t)p->out_h * p->out_w * p->c;
    return p->c && int8_range(p->act_min, p->act_max) &&
           windows_hold(p->out_h, p->stride_h, p->pad_t, p->kh, p->in_h) &&
           windows_hold(p->out_w, p->stride_w, p->pad_l, p->kw, p->in_w);
}

static bool mean_ok(const dhn_mean_t *p, extent_t *x)
{
    x->in0 = (uint64_t)p->pixels * p->c;
    x->out = p->c;
    return p->pixels && p->pixels <= (1u << 23) && p->c && int8_range(p->in_zp, p->in_zp) &&
           int8_range(p->out_zp, p->out_zp) && multiplier_ok(p->mult, p->shift);
}

static bool softmax_ok(const dhn_space_t *s, const dhn_softmax_t *p, extent_t *x)
{
    x->in0 = x->out = (uint64_t)p->rows * p->c;
    if (!p->rows || !p->c || p->c > 4096u || !constant(s, p->table, 256u * 4u)) {
        return false;
    }
    /* The largest term is exp(0): without it the reciprocal would meet zero. */
    const int32_t *const table = (const void *)(s->pack + p->table);
    for (uint32_t i = 0; i < 256u; i++) {
        if (table[i] < 0) {
            return false;
        }
    }
    return table[0] == INT32_MAX;
}

static bool copy_ok(const dhn_copy_t *p, extent_t *x)
{
    if (!shape_ok(p->shape)) {
        return false;
    }
    x->in0 = strided(p->shape, p->in_stride);
    x->out = strided(p->shape, p->out_stride);
    return true;
}

static uint32_t params_bytes(uint32_t op)
{
    static const uint8_t size[] = {
        [DHN_OP_CONV] = sizeof(dhn_conv_t),
        [DHN_OP_DEPTHWISE] = sizeof(dhn_conv_t),
        [DHN_OP_FC] = sizeof(dhn_fc_t),
        [DHN_OP_ADD] = sizeof(dhn_binary_t),
        [DHN_OP_MUL] = sizeof(dhn_binary_t),
        [DHN_OP_AVG_POOL] = sizeof(dhn_pool_t),
        [DHN_OP_MAX_POOL] = sizeof(dhn_pool_t),
        [DHN_OP_MEAN] = sizeof(dhn_mean_t),
        [DHN_OP_LUT] = sizeof(dhn_lut_t),
        [DHN_OP_SOFTMAX] = sizeof(dhn_softmax_t),
        [DHN_OP_COPY] = sizeof(dhn_copy_t),
        [DHN_OP_FILL] = sizeof(dhn_fill_t),
        [DHN_OP_ADD_TABLE] = sizeof(dhn_add_table_t),
        [DHN_OP_CONV_MASKED] = sizeof(dhn_conv_masked_t),
    };
    return (op < sizeof size) ? size[op] : 0u;
}

static bool params_ok(const dhn_space_t *s, uint32_t op, const void *params, dhn_fits_fn *fits, extent_t *x)
{
    switch (op) {
    case DHN_OP_CONV: return conv_ok(s, params, false, fits, x);
    case DHN_OP_DEPTHWISE: return conv_ok(s, params, true, fits, x);
    case DHN_OP_CONV_MASKED: return conv_masked_ok(s, params, fits, x);
    case DHN_OP_FC: return fc_ok(s, params, fits, x);
    case DHN_OP_ADD: return binary_ok(params, true, x) && fits_plain(params, fits, x);
    case DHN_OP_MUL: return binary_ok(params, false, x) && fits_plain(params, fits, x);
    case DHN_OP_AVG_POOL:
    case DHN_OP_MAX_POOL: return pool_ok(params, x) && fits_plain(params, fits, x);
    case DHN_OP_MEAN: return mean_ok(params, x) && fits_plain(params, fits, x);
    case DHN_OP_LUT: {
        const dhn_lut_t *const p = params;
        x->in0 = x->out = p->count;
        return constant(s, p->table, 256u) && fits_plain(params, fits, x);
    }
    case DHN_OP_SOFTMAX: return softmax_ok(s, params, x) && fits_plain(params, fits, x);
    case DHN_OP_COPY: return copy_ok(params, x) && fits_plain(params, fits, x);
    case DHN_OP_FILL: x->out = ((const dhn_fill_t *)params)->count; return fits_plain(params, fits, x);
    case DHN_OP_ADD_TABLE: {
        const dhn_add_table_t *const p = params;
        x->in0 = x->in1 = x->out = p->count;
        return constant(s, p->table, 256u * 4u) && fits_plain(params, fits, x);
    }
    default: return false;
    }
}

static uint32_t op_of(const dhn_space_t *s, const dhn_instr_t *instr)
{
    return (uint32_t)s->kernel_ids[instr->kernel] >> 8;
}

/* A kernel may keep places and pointers in its scratch: an operand over it would let data become addresses. */
static bool scratch_is_apart(const dhn_instr_t *instr, uint32_t operand, uint64_t bytes)
{
    bool const elsewhere = (operand & DHN_REF_CONST) != 0u || bytes == 0u || instr->scratch_bytes == 0u;
    return elsewhere || (uint64_t)operand + bytes <= instr->scratch ||
           (uint64_t)instr->scratch + instr->scratch_bytes <= operand;
}

static bool scratch_ok(const dhn_space_t *space, const dhn_instr_t *instr, const extent_t *x)
{
    return x->scratch >= 0 && x->scratch <= instr->scratch_bytes && (instr->scratch & 3u) == 0u &&
           writable(space, instr->scratch, instr->scratch_bytes) && scratch_is_apart(instr, instr->in0, x->in0) &&
           scratch_is_apart(instr, instr->in1, x->in1) && scratch_is_apart(instr, instr->out, x->out);
}

dhn_status_t dhn_verify_run(const dhn_space_t *space, const dhn_instr_t *instr)
{
    if (instr->kernel >= space->kernel_count) {
        return DHN_ERR_KERNEL;
    }
    uint32_t const op = op_of(space, instr);
    uint32_t const need = params_bytes(op);
    if (need == 0u || instr->bytes != sizeof *instr + ((need + 3u) & ~3u)) {
        return DHN_ERR_PARAMS;
    }
    extent_t x = {0, 0, 0, 0};
    if (!params_ok(space, op, dhn_params(instr), space->entry[instr->kernel]->fits, &x)) {
        return DHN_ERR_PARAMS;
    }
    bool const inside = readable(space, instr->in0, x.in0) && readable(space, instr->in1, x.in1) &&
                        writable(space, instr->out, x.out) && scratch_ok(space, instr, &x);
    return inside ? DHN_OK : DHN_ERR_BOUNDS;
}

uint64_t dhn_bytes_written(const dhn_space_t *space, const dhn_instr_t *instr)
{
    extent_t x = {0, 0, 0, 0};
    (void)params_ok(space, op_of(space, instr), dhn_params(instr), space->entry[instr->kernel]->fits, &x);
    return x.out;
}
