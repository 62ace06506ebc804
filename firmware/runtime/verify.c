/* Checks the operands and parameters of one instruction, so that its kernel can run without checks. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "internal.h"

/* What an instruction touches and needs: bytes of its operands (0: not used), of constants and of scratch. */
typedef struct {
    uint32_t in0, in1, out;
    uint32_t channels; /* that have a multiplier and a shift each, where constants hold them */
    dhn_need_t need;
} extent_t;

/* What the records of operators have in common. A record is looked at as int16 fields, counted from 0. */
typedef struct {
    uint8_t bytes;
    uint8_t sizes;    /* the first so many fields are not zero */
    uint8_t int8_at;  /* from this field on ... */
    uint8_t int8s;    /* ... so many hold what fits int8 */
    uint8_t range;    /* 1: the last two of these are a lower and an upper limit */
    uint8_t constant; /* byte at which the offsets of constants begin */
} record_t;

#define FIELD(type, name) (offsetof(type, name) / sizeof(int16_t))
#define CONV_RECORD(type) {sizeof(type), 12, FIELD(type, in_zp), 4, 1, offsetof(type, weight)}
#define BINARY_RECORD {sizeof(dhn_binary_t), 3, FIELD(dhn_binary_t, a_zp), 5, 1, 0}
#define POOL_RECORD {sizeof(dhn_pool_t), 9, FIELD(dhn_pool_t, act_min), 2, 1, 0}

static const record_t records[] = {
    [DHN_OP_CONV] = CONV_RECORD(dhn_conv_t),
    [DHN_OP_DEPTHWISE] = CONV_RECORD(dhn_conv_t),
    [DHN_OP_CONV_MASKED] = CONV_RECORD(dhn_conv_masked_t),
    [DHN_OP_FC] = {sizeof(dhn_fc_t), 3, FIELD(dhn_fc_t, in_zp), 4, 1, offsetof(dhn_fc_t, weight)},
    [DHN_OP_ADD] = BINARY_RECORD,
    [DHN_OP_MUL] = BINARY_RECORD,
    [DHN_OP_AVG_POOL] = POOL_RECORD,
    [DHN_OP_MAX_POOL] = POOL_RECORD,
    [DHN_OP_MEAN] = {sizeof(dhn_mean_t), 0, FIELD(dhn_mean_t, in_zp), 2, 0, 0},
    [DHN_OP_LUT] = {sizeof(dhn_lut_t), 0, 0, 0, 0, offsetof(dhn_lut_t, table)},
    [DHN_OP_SOFTMAX] = {sizeof(dhn_softmax_t), 2, 0, 0, 0, offsetof(dhn_softmax_t, table)},
    [DHN_OP_COPY] = {sizeof(dhn_copy_t), 3, 0, 0, 0, 0},
    [DHN_OP_FILL] = {sizeof(dhn_fill_t), 0, 0, 0, 0, 0},
    [DHN_OP_ADD_TABLE] = {sizeof(dhn_add_table_t), 0, 0, 0, 0, offsetof(dhn_add_table_t, table)},
};

static bool record_ok(const record_t *r, const int16_t *field)
{
    for (uint32_t i = 0; i < r->sizes; i++) {
        if (field[i] == 0) {
            return false;
        }
    }
    field += r->int8_at;
    for (uint32_t i = 0; i < r->int8s; i++) {
        if (field[i] != (int8_t)field[i]) {
            return false;
        }
    }
    return r->range == 0u || field[r->int8s - 2u] <= field[r->int8s - 1u];
}

static bool multiplier_ok(int32_t mult, int32_t shift)
{
    return mult != INT32_MIN && shift >= -31 && shift <= 30;
}

DHN_APART static uint32_t saturated(uint64_t bytes)
{
    return (bytes > UINT32_MAX) ? UINT32_MAX : (uint32_t)bytes;
}

DHN_APART uint32_t dhn_volume(uint32_t h, uint32_t w, uint32_t c)
{
    return saturated((uint64_t)(h * w) * c);
}

/* What TFLite's tables need, unless the kernel needs something else. */
DHN_APART static void channels(extent_t *x, uint32_t filter, uint32_t n)
{
    x->channels = n;
    x->need.constant[DHN_NEED_WEIGHT] = (int64_t)filter * n;
    x->need.constant[DHN_NEED_BIAS] = x->need.constant[DHN_NEED_MULT] = 4ll * n;
    x->need.constant[DHN_NEED_SHIFT] = n;
}

/* Keeps every pixel coordinate that a window can name far inside int32. Real layers stay within it: a window starts at
 * most one kernel before the image and 65,535 behind it. All arguments are 16-bit fields. */
static bool reach_ok(uint32_t out, uint32_t stride, uint32_t kernel, uint32_t dilation, uint32_t in, uint32_t pad)
{
    return (out - 1u) * stride <= in + pad + 65535u && kernel * dilation <= 131072u;
}

static bool conv_ok(const dhn_conv_t *p, bool depthwise, extent_t *x)
{
    if (p->groups == 0u || p->in_c % p->groups || p->out_c % p->groups || (depthwise && p->out_c % p->in_c)) {
        return false;
    }
    uint32_t const filter = dhn_volume(p->kh, p->kw, depthwise ? 1u : (uint32_t)(p->in_c / p->groups));
    x->in0 = dhn_volume(p->in_h, p->in_w, p->in_c);
    x->out = dhn_volume(p->out_h, p->out_w, p->out_c);
    channels(x, filter, p->out_c);
    return filter <= 65535u && reach_ok(p->out_h, p->stride_h, p->kh, p->dilation_h, p->in_h, p->pad_t) &&
           reach_ok(p->out_w, p->stride_w, p->kw, p->dilation_w, p->in_w, p->pad_l);
}

/* Counts the gates of one side, a byte each. */
static bool gates_ok(uint32_t in_or_out_c, uint32_t group, extent_t *x)
{
    if (group != 0u) {
        x->in1 += in_or_out_c / group;
    }
    return group == 0u || in_or_out_c % group == 0u;
}

static bool gated_ok(const dhn_conv_masked_t *p, extent_t *x)
{
    return gates_ok(p->in_c, p->in_group, x) && gates_ok(p->out_c, p->out_group, x) && x->in1 != 0u && p->groups == 1u;
}

/* One past the last element that a strided walk over `shape` touches. */
static uint32_t strided(const uint16_t shape[3], const uint32_t stride[3])
{
    uint64_t last = 0;
    for (int i = 0; i < 3; i++) {
        last += (uint64_t)(shape[i] - 1u) * stride[i]; /* 3 * 2^16 * 2^32 fits */
    }
    return saturated(last + 1u);
}

static bool addends_ok(const dhn_binary_t *p)
{
    return p->left_shift >= 0 && p->left_shift <= 20 && multiplier_ok(p->a_mult, p->a_shift) &&
           multiplier_ok(p->b_mult, p->b_shift);
}

static bool binary_ok(const dhn_binary_t *p, extent_t *x)
{
    x->in0 = strided(p->shape, p->a_stride);
    x->in1 = strided(p->shape, p->b_stride);
    x->out = dhn_volume(p->shape[0], p->shape[1], p->shape[2]);
    return multiplier_ok(p->out_mult, p->out_shift);
}

/* Every window must hold a pixel, or an average would divide by zero. */
static bool windows_hold(uint32_t out, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t in)
{
    return pad < kernel && (out - 1u) * stride < in + pad;
}

static bool pool_ok(const dhn_pool_t *p, extent_t *x)
{
    x->in0 = dhn_volume(p->in_h, p->in_w, p->c);
    x->out = dhn_volume(p->out_h, p->out_w, p->c);
    return windows_hold(p->out_h, p->stride_h, p->pad_t, p->kh, p->in_h) &&
           windows_hold(p->out_w, p->stride_w, p->pad_l, p->kw, p->in_w);
}

static bool mean_ok(const dhn_mean_t *p, extent_t *x)
{
    x->in0 = saturated((uint64_t)p->pixels * p->c);
    x->out = p->c;
    return p->pixels != 0u && p->pixels <= (1u << 23) && p->c != 0u && multiplier_ok(p->mult, p->shift);
}

static bool softmax_ok(const dhn_softmax_t *p, extent_t *x)
{
    x->in0 = x->out = (uint32_t)p->rows * p->c;
    x->need.constant[0] = 256 * 4;
    return p->c <= 4096u;
}

static void fc_needs(const dhn_fc_t *p, extent_t *x)
{
    x->in0 = (uint32_t)p->rows * p->in_c;
    x->out = (uint32_t)p->rows * p->out_c;
    channels(x, p->in_c, p->out_c);
}

static void copy_needs(const dhn_copy_t *p, extent_t *x)
{
    x->in0 = strided(p->shape, p->in_stride);
    x->out = strided(p->shape, p->out_stride);
}

/* What remains: their records begin with the number of elements. */
static void element_wise_needs(uint32_t op, const uint32_t *count, extent_t *x)
{
    x->out = *count;
    if (op != DHN_OP_FILL) {
        x->in0 = *count;
        x->need.constant[0] = 256;
    }
    if (op == DHN_OP_ADD_TABLE) {
        x->in1 = *count;
        x->need.constant[0] = 256 * 4;
    }
}

/* The operator's own rules; what its reference touches and needs. */
DHN_APART static bool operator_ok(uint32_t op, const void *params, extent_t *x)
{
    switch (op) {
    case DHN_OP_CONV_MASKED:
        if (!gated_ok(params, x)) {
            return false;
        } /* fall through */
    case DHN_OP_CONV:
    case DHN_OP_DEPTHWISE: return conv_ok(params, op == DHN_OP_DEPTHWISE, x);
    case DHN_OP_FC: fc_needs(params, x); return true;
    case DHN_OP_ADD:
        if (!addends_ok(params)) {
            return false;
        } /* fall through */
    case DHN_OP_MUL: return binary_ok(params, x);
    case DHN_OP_AVG_POOL:
    case DHN_OP_MAX_POOL: return pool_ok(params, x);
    case DHN_OP_MEAN: return mean_ok(params, x);
    case DHN_OP_SOFTMAX: return softmax_ok(params, x);
    case DHN_OP_COPY: copy_needs(params, x); return true;
    default: element_wise_needs(op, params, x); return true;
    }
}

static bool multipliers_ok(const int32_t *mult, const int8_t *shift, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!multiplier_ok(mult[i], shift[i])) {
            return false;
        }
    }
    return true;
}

/* The largest term is exp(0): without it the reciprocal would meet zero. */
static bool exponentials_ok(const int32_t *table)
{
    for (uint32_t i = 0; i < 256u; i++) {
        if (table[i] < 0) {
            return false;
        }
    }
    return table[0] == INT32_MAX;
}

/* Constants lie in the pack, at the offsets that the record has from `at` on, and those that are judged are sane. */
static bool constants_ok(const dhn_space_t *s, uint32_t op, const uint32_t *at, const extent_t *x)
{
    for (uint32_t i = 0; i < DHN_NEEDS; i++) {
        uint32_t const bytes = saturated((uint64_t)x->need.constant[i]);
        if (bytes != 0u &&
            ((at[i] & 3u) != 0u || at[i] < sizeof(dhn_header_t) || !dhn_inside(at[i], bytes, s->pack_bytes))) {
            return false;
        }
    }
    if (op == DHN_OP_SOFTMAX) {
        return exponentials_ok((const void *)(s->pack + at[0]));
    }
    if (x->need.constant[DHN_NEED_MULT] == 0) {
        return true; /* multipliers, if any, lie in a table of the kernel's own, in which every number will do */
    }
    return x->need.constant[DHN_NEED_SHIFT] != 0 &&
           multipliers_ok((const void *)(s->pack + at[DHN_NEED_MULT]), (const int8_t *)(s->pack + at[DHN_NEED_SHIFT]),
                          x->channels);
}

/* A kernel may keep places and pointers in its scratch: an operand over it would let data become addresses. */
static bool operand_ok(const dhn_space_t *s, const dhn_instr_t *instr, uint32_t ref, uint32_t bytes)
{
    if ((ref & DHN_REF_CONST) != 0u) {
        return dhn_inside(ref & ~DHN_REF_CONST, bytes, s->pack_bytes);
    }
    return dhn_inside(ref, bytes, s->arena_bytes) &&
           (bytes == 0u || instr->scratch_bytes == 0u || ref + bytes <= instr->scratch ||
            instr->scratch + instr->scratch_bytes <= ref);
}

dhn_status_t dhn_verify_run(const dhn_space_t *space, const dhn_instr_t *instr, uint32_t *written)
{
    if (instr->kernel >= space->kernel_count) {
        return DHN_ERR_KERNEL;
    }
    uint32_t const op = (uint32_t)space->kernel_ids[instr->kernel] >> 8;
    if (op == 0u || op >= sizeof records / sizeof records[0]) {
        return DHN_ERR_PARAMS;
    }
    const record_t *const r = &records[op];
    const uint8_t *const params = dhn_params(instr);
    dhn_fits_fn *const fits = space->entry[instr->kernel]->fits;
    extent_t x;
    memset(&x, 0, sizeof x);
    if (instr->bytes != sizeof *instr + r->bytes || !record_ok(r, (const void *)params) ||
        !operator_ok(op, params, &x) || (fits != NULL && !fits(params, &x.need)) ||
        !constants_ok(space, op, (const void *)(params + r->constant), &x)) {
        return DHN_ERR_PARAMS;
    }
    *written = x.out;
    bool const inside = (instr->scratch & 3u) == 0u && saturated((uint64_t)x.need.scratch) <= instr->scratch_bytes &&
                        dhn_inside(instr->scratch, instr->scratch_bytes, space->arena_bytes) &&
                        operand_ok(space, instr, instr->in0, x.in0) && operand_ok(space, instr, instr->in1, x.in1) &&
                        operand_ok(space, instr, instr->out, x.out) && (instr->out & DHN_REF_CONST) == 0u;
    return inside ? DHN_OK : DHN_ERR_BOUNDS;
}
