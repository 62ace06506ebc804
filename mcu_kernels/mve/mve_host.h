/* What the intrinsics of arm_mve.h that the kernels here use compute, in C, for cores without them. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_MVE_HOST_H
#define DHN_MVE_HOST_H

#include <stdint.h>
#include <string.h>

typedef struct {
    int8_t v[16];
} int8x16_t;
typedef struct {
    uint8_t v[16];
} uint8x16_t;
typedef struct {
    int16_t v[8];
} int16x8_t;
typedef struct {
    uint16_t v[8];
} uint16x8_t;
typedef struct {
    int32_t v[4];
} int32x4_t;
typedef struct {
    uint32_t v[4];
} uint32x4_t;
/* One bit per lane here, one per byte on the core; the kernels only pass it on. */
typedef uint16_t mve_pred16_t;

static inline int64_t dhn_mve_clip(int64_t x, int64_t low, int64_t high)
{
    return (x < low) ? low : ((x > high) ? high : x);
}

#define DHN_MVE_LANES(type, lanes, expression)                                                                         \
    do {                                                                                                               \
        type r;                                                                                                        \
        for (int i = 0; i < (lanes); i++) {                                                                            \
            r.v[i] = (expression);                                                                                     \
        }                                                                                                              \
        return r;                                                                                                      \
    } while (0)
/* Functions of two vectors, of a vector and a number, and those that load or store lanes, in memory of type `m`. */
#define DHN_MVE_VV(name, type, lanes, expression)                                                                      \
    static inline type name(type a, type b)                                                                            \
    {                                                                                                                  \
        DHN_MVE_LANES(type, lanes, expression);                                                                        \
    }
#define DHN_MVE_VN(name, type, lanes, number, expression)                                                              \
    static inline type name(type a, number b)                                                                          \
    {                                                                                                                  \
        DHN_MVE_LANES(type, lanes, expression);                                                                        \
    }
#define DHN_MVE_MEMORY(width, lane, type, lanes, m)                                                                    \
    static inline type vldr##width##q_##lane(const m *p)                                                               \
    {                                                                                                                  \
        DHN_MVE_LANES(type, lanes, p[i]);                                                                              \
    }                                                                                                                  \
    static inline type vldr##width##q_z_##lane(const m *p, mve_pred16_t on)                                            \
    {                                                                                                                  \
        DHN_MVE_LANES(type, lanes, ((on >> i) & 1) ? p[i] : 0);                                                        \
    }                                                                                                                  \
    static inline void vstr##width##q_##lane(m *p, type a)                                                             \
    {                                                                                                                  \
        for (int i = 0; i < (lanes); i++) {                                                                            \
            p[i] = (m)a.v[i];                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static inline void vstr##width##q_p_##lane(m *p, type a, mve_pred16_t on)                                          \
    {                                                                                                                  \
        for (int i = 0; i < (lanes); i++) {                                                                            \
            if ((on >> i) & 1) {                                                                                       \
                p[i] = (m)a.v[i];                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
/* Bytes gathered from, or scattered to, `p` plus an offset per lane. */
#define DHN_MVE_SCATTERED(lane, type, offsets, lanes)                                                                  \
    static inline type vldrbq_gather_offset_##lane(const int8_t *p, offsets o)                                         \
    {                                                                                                                  \
        DHN_MVE_LANES(type, lanes, p[o.v[i]]);                                                                         \
    }                                                                                                                  \
    static inline void vstrbq_scatter_offset_##lane(int8_t *p, offsets o, type a)                                      \
    {                                                                                                                  \
        for (int i = 0; i < (lanes); i++) {                                                                            \
            p[o.v[i]] = (int8_t)a.v[i];                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    static inline void vstrbq_scatter_offset_p_##lane(int8_t *p, offsets o, type a, mve_pred16_t on)                   \
    {                                                                                                                  \
        for (int i = 0; i < (lanes); i++) {                                                                            \
            if ((on >> i) & 1) {                                                                                       \
                p[o.v[i]] = (int8_t)a.v[i];                                                                            \
            }                                                                                                          \
        }                                                                                                              \
    }

DHN_MVE_MEMORY(b, s8, int8x16_t, 16, int8_t)
DHN_MVE_MEMORY(b, u8, uint8x16_t, 16, uint8_t)
DHN_MVE_MEMORY(b, s16, int16x8_t, 8, int8_t)
DHN_MVE_MEMORY(b, s32, int32x4_t, 4, int8_t)
DHN_MVE_MEMORY(b, u32, uint32x4_t, 4, uint8_t)
DHN_MVE_MEMORY(h, u16, uint16x8_t, 8, uint16_t)
DHN_MVE_MEMORY(w, s32, int32x4_t, 4, int32_t)
DHN_MVE_MEMORY(w, u32, uint32x4_t, 4, uint32_t)
DHN_MVE_SCATTERED(s8, int8x16_t, uint8x16_t, 16)
DHN_MVE_SCATTERED(s16, int16x8_t, uint16x8_t, 8)
DHN_MVE_SCATTERED(s32, int32x4_t, uint32x4_t, 4)

static inline int32_t dhn_mve_high(int64_t a, int64_t b)
{
    return (int32_t)dhn_mve_clip((2 * a * b + ((int64_t)1 << 31)) >> 32, INT32_MIN, INT32_MAX);
}

static inline int32_t dhn_mve_round_shift(int32_t a, int32_t by)
{
    return (by < 0) ? (int32_t)(((int64_t)a + ((int64_t)1 << (-by - 1))) >> -by) : (int32_t)((uint32_t)a << by);
}

DHN_MVE_VV(vqrdmulhq_s32, int32x4_t, 4, dhn_mve_high(a.v[i], b.v[i]))
DHN_MVE_VN(vqrdmulhq_n_s32, int32x4_t, 4, int32_t, dhn_mve_high(a.v[i], b))
DHN_MVE_VV(vaddq_s32, int32x4_t, 4, (int32_t)((uint32_t)a.v[i] + (uint32_t)b.v[i]))
DHN_MVE_VN(vaddq_n_s32, int32x4_t, 4, int32_t, (int32_t)((uint32_t)a.v[i] + (uint32_t)b))
DHN_MVE_VN(vqaddq_n_s16, int16x8_t, 8, int16_t, (int16_t)dhn_mve_clip(a.v[i] + b, INT16_MIN, INT16_MAX))
DHN_MVE_VV(vandq_s32, int32x4_t, 4, a.v[i] & b.v[i])
DHN_MVE_VV(vaddq_s16, int16x8_t, 8, (int16_t)(a.v[i] + b.v[i]))
DHN_MVE_VV(vsubq_s32, int32x4_t, 4, (int32_t)((uint32_t)a.v[i] - (uint32_t)b.v[i]))
DHN_MVE_VV(veorq_s32, int32x4_t, 4, a.v[i] ^ b.v[i])
DHN_MVE_VV(vmulhq_u32, uint32x4_t, 4, (uint32_t)(((uint64_t)a.v[i] * b.v[i]) >> 32))
DHN_MVE_VN(vaddq_n_u8, uint8x16_t, 16, uint8_t, (uint8_t)(a.v[i] + b))
DHN_MVE_VN(vshlq_n_s32, int32x4_t, 4, int32_t, (int32_t)((uint32_t)a.v[i] << b))
DHN_MVE_VV(vmaxq_s16, int16x8_t, 8, (a.v[i] > b.v[i]) ? a.v[i] : b.v[i])
DHN_MVE_VV(vminq_s16, int16x8_t, 8, (a.v[i] < b.v[i]) ? a.v[i] : b.v[i])
DHN_MVE_VV(vmaxq_s8, int8x16_t, 16, (a.v[i] > b.v[i]) ? a.v[i] : b.v[i])
DHN_MVE_VV(vminq_s8, int8x16_t, 16, (a.v[i] < b.v[i]) ? a.v[i] : b.v[i])
DHN_MVE_VV(vmaxq_s32, int32x4_t, 4, (a.v[i] > b.v[i]) ? a.v[i] : b.v[i])
DHN_MVE_VV(vminq_s32, int32x4_t, 4, (a.v[i] < b.v[i]) ? a.v[i] : b.v[i])
DHN_MVE_VN(vshrq_n_s32, int32x4_t, 4, int32_t, (int32_t)((int64_t)a.v[i] >> b))
DHN_MVE_VV(vshlq_s32, int32x4_t, 4, (b.v[i] < 0) ? a.v[i] >> -b.v[i] : (int32_t)((uint32_t)a.v[i] << b.v[i]))
DHN_MVE_VV(vrshlq_s32, int32x4_t, 4, dhn_mve_round_shift(a.v[i], b.v[i]))

DHN_MVE_VN(vshlq_r_s32, int32x4_t, 4, int32_t, (b < 0) ? a.v[i] >> -b : (int32_t)((uint32_t)a.v[i] << b))
DHN_MVE_VN(vrshlq_n_s32, int32x4_t, 4, int32_t, dhn_mve_round_shift(a.v[i], b))
DHN_MVE_VN(vmulq_n_u16, uint16x8_t, 8, uint16_t, (uint16_t)((uint32_t)a.v[i] * b))
DHN_MVE_VN(vaddq_n_u16, uint16x8_t, 8, uint16_t, (uint16_t)(a.v[i] + b))

static inline uint16x8_t vidupq_n_u16(uint32_t from, int step)
{
    DHN_MVE_LANES(uint16x8_t, 8, (uint16_t)(from + (uint32_t)(i * step)));
}

static inline int32_t vmladavq_s8(int8x16_t a, int8x16_t b)
{
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) {
        sum += a.v[i] * b.v[i];
    }
    return sum;
}

/* acc + a * b, modulo 2^32. */
static inline int32x4_t vmlaq_n_s32(int32x4_t acc, int32x4_t a, int32_t b)
{
    DHN_MVE_LANES(int32x4_t, 4, (int32_t)((uint32_t)acc.v[i] + (uint32_t)a.v[i] * (uint32_t)b));
}

static inline int32x4_t vldrwq_gather_shifted_offset_s32(const int32_t *p, uint32x4_t o)
{
    DHN_MVE_LANES(int32x4_t, 4, p[o.v[i]]);
}

static inline int32x4_t vabsq_s32(int32x4_t a)
{
    DHN_MVE_LANES(int32x4_t, 4, (a.v[i] < 0) ? -a.v[i] : a.v[i]);
}

static inline int32x4_t vmovlbq_s16(int16x8_t a)
{
    DHN_MVE_LANES(int32x4_t, 4, a.v[2 * i]);
}

static inline int32x4_t vmovltq_s16(int16x8_t a)
{
    DHN_MVE_LANES(int32x4_t, 4, a.v[2 * i + 1]);
}

static inline int16x8_t vdupq_n_s16(int16_t b)
{
    DHN_MVE_LANES(int16x8_t, 8, b);
}

static inline uint32x4_t vdupq_n_u32(uint32_t b)
{
    DHN_MVE_LANES(uint32x4_t, 4, b);
}

static inline int8x16_t vdupq_n_s8(int8_t b)
{
    DHN_MVE_LANES(int8x16_t, 16, b);
}

static inline int32x4_t vdupq_n_s32(int32_t b)
{
    DHN_MVE_LANES(int32x4_t, 4, b);
}

/* Narrowing writes the even (b) or the odd (t) lanes of its first operand. */
#define DHN_MVE_NARROW(name, type, wide, lanes, which, low, high)                                                      \
    static inline type name(type a, wide b)                                                                            \
    {                                                                                                                  \
        for (int i = 0; i < (lanes); i++) {                                                                            \
            a.v[2 * i + (which)] = (__typeof__(a.v[0]))dhn_mve_clip(b.v[i], low, high);                                \
        }                                                                                                              \
        return a;                                                                                                      \
    }
DHN_MVE_NARROW(vqmovnbq_s32, int16x8_t, int32x4_t, 4, 0, INT16_MIN, INT16_MAX)
DHN_MVE_NARROW(vqmovntq_s32, int16x8_t, int32x4_t, 4, 1, INT16_MIN, INT16_MAX)
DHN_MVE_NARROW(vqmovnbq_s16, int8x16_t, int16x8_t, 8, 0, INT8_MIN, INT8_MAX)
DHN_MVE_NARROW(vqmovntq_s16, int8x16_t, int16x8_t, 8, 1, INT8_MIN, INT8_MAX)

#define DHN_MVE_SAME_BITS(name, to, from)                                                                              \
    static inline to name(from a)                                                                                      \
    {                                                                                                                  \
        to r;                                                                                                          \
        memcpy(&r, &a, sizeof r);                                                                                      \
        return r;                                                                                                      \
    }
DHN_MVE_SAME_BITS(vreinterpretq_s16_s32, int16x8_t, int32x4_t)
DHN_MVE_SAME_BITS(vreinterpretq_s8_s16, int8x16_t, int16x8_t)
DHN_MVE_SAME_BITS(vreinterpretq_s32_s8, int32x4_t, int8x16_t)
DHN_MVE_SAME_BITS(vreinterpretq_s32_u32, int32x4_t, uint32x4_t)
DHN_MVE_SAME_BITS(vreinterpretq_u32_s32, uint32x4_t, int32x4_t)
DHN_MVE_SAME_BITS(vreinterpretq_u8_s8, uint8x16_t, int8x16_t)

static inline mve_pred16_t dhn_mve_first(uint32_t lanes, uint32_t n)
{
    return (mve_pred16_t)((1u << ((n < lanes) ? n : lanes)) - 1u);
}

static inline mve_pred16_t vctp8q(uint32_t n)
{
    return dhn_mve_first(16, n);
}

static inline mve_pred16_t vctp16q(uint32_t n)
{
    return dhn_mve_first(8, n);
}

static inline mve_pred16_t vctp32q(uint32_t n)
{
    return dhn_mve_first(4, n);
}

#endif
