/* The DSP instructions of Armv7E-M that the kernels here use, with their meaning in C for the host twin. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_DSP_H
#define DHN_ARMV7EM_DSP_H

#include <stdint.h>
#include <string.h>

/* A function of a header that is too large to be inlined, and not used by all who include it. */
#define DHN_CALLED static __attribute__((noinline, unused))

/* Rarely called: small rather than fast. */
#define DHN_RARE static __attribute__((cold, noinline, unused))

/* A word holds two int16 lanes, lane 0 in its low half. "bottom" and "top" say which lane an operand takes. Additions wrap
 * modulo 2^32; the instructions set the Q flag where they do, which nobody reads. */

static inline int32_t dhn_lane0(uint32_t x)
{
    return (int16_t)(x & 0xFFFFu);
}

static inline int32_t dhn_lane1(uint32_t x)
{
    return (int16_t)(x >> 16);
}

static inline uint32_t dhn_lanes(int32_t lane0, int32_t lane1)
{
    return ((uint32_t)lane0 & 0xFFFFu) | ((uint32_t)lane1 << 16);
}

/* Tensors start anywhere: LDR, LDRH, STR and STRH may be unaligned on these cores. LDRD and LDM may not, so no compiler
 * must be given the chance to merge two of these: hence memcpy, which it turns into one plain access. */
static inline uint32_t dhn_load32(const void *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint32_t dhn_load16(const void *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void dhn_store32(void *p, uint32_t x)
{
    memcpy(p, &x, sizeof x);
}

static inline void dhn_store16(void *p, uint32_t x)
{
    uint16_t const h = (uint16_t)x;
    memcpy(p, &h, sizeof h);
}

#if defined(__ARM_FEATURE_DSP)

#define DHN_DSP3(name, text)                                                                                           \
    static inline int32_t name(uint32_t a, uint32_t b, int32_t acc)                                                    \
    {                                                                                                                  \
        int32_t r;                                                                                                     \
        __asm__(text " %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));                                          \
        return r;                                                                                                      \
    }
#define DHN_DSP2(type, name, text, operands)                                                                           \
    static inline type name(uint32_t a, uint32_t b)                                                                    \
    {                                                                                                                  \
        type r;                                                                                                        \
        __asm__(text " " operands : "=r"(r) : "r"(a), "r"(b));                                                         \
        return r;                                                                                                      \
    }
#define DHN_DSP1(name, text)                                                                                           \
    static inline uint32_t name(uint32_t a)                                                                            \
    {                                                                                                                  \
        uint32_t r;                                                                                                    \
        __asm__(text : "=r"(r) : "r"(a));                                                                              \
        return r;                                                                                                      \
    }
#define DHN_MEANS(expression)

#else /* the host: the same names, computed */

#undef DHN_DSP3
#undef DHN_DSP2
#undef DHN_DSP1
#undef DHN_MEANS

#define DHN_DSP3(name, text) static inline int32_t name(uint32_t a, uint32_t b, int32_t acc)
#define DHN_DSP2(type, name, text, operands) static inline type name(uint32_t a, uint32_t b)
#define DHN_DSP1(name, text) static inline uint32_t name(uint32_t a)
#define DHN_MEANS(expression)                                                                                          \
    {                                                                                                                  \
        return expression;                                                                                             \
    }

#endif

/* acc + products of lanes, modulo 2^32. */
#define DHN_WRAP(sum) (int32_t)(uint32_t)(sum)
#define DHN_MUL(x, y) ((uint32_t)((x) * (y)))
DHN_DSP3(dhn_smlad, "smlad")
DHN_MEANS(DHN_WRAP((uint32_t)acc + DHN_MUL(dhn_lane0(a), dhn_lane0(b)) + DHN_MUL(dhn_lane1(a), dhn_lane1(b))))
DHN_DSP3(dhn_smladx, "smladx")
DHN_MEANS(DHN_WRAP((uint32_t)acc + DHN_MUL(dhn_lane0(a), dhn_lane1(b)) + DHN_MUL(dhn_lane1(a), dhn_lane0(b))))
DHN_DSP3(dhn_smlabb, "smlabb")
DHN_MEANS(DHN_WRAP((uint32_t)acc + DHN_MUL(dhn_lane0(a), dhn_lane0(b))))
DHN_DSP3(dhn_smlabt, "smlabt")
DHN_MEANS(DHN_WRAP((uint32_t)acc + DHN_MUL(dhn_lane0(a), dhn_lane1(b))))
DHN_DSP3(dhn_smlatb, "smlatb")
DHN_MEANS(DHN_WRAP((uint32_t)acc + DHN_MUL(dhn_lane1(a), dhn_lane0(b))))
DHN_DSP3(dhn_smlatt, "smlatt")
DHN_MEANS(DHN_WRAP((uint32_t)acc + DHN_MUL(dhn_lane1(a), dhn_lane1(b))))
DHN_DSP2(int32_t, dhn_smuad, "smuad", "%0, %1, %2")
DHN_MEANS(DHN_WRAP(DHN_MUL(dhn_lane0(a), dhn_lane0(b)) + DHN_MUL(dhn_lane1(a), dhn_lane1(b))))

/* High word of the 64-bit product a * b, rounded to nearest (halves up) by the r forms, plus acc. */
DHN_DSP3(dhn_smmla, "smmla")
DHN_MEANS(DHN_WRAP((uint64_t)(((int64_t)acc * 4294967296) + (int64_t)(int32_t)a * (int32_t)b) >> 32))
DHN_DSP3(dhn_smmlar, "smmlar")
DHN_MEANS(DHN_WRAP(
    ((uint64_t)((int64_t)acc * 4294967296) + (uint64_t)((int64_t)(int32_t)a * (int32_t)b) + 0x80000000u) >> 32))
DHN_DSP2(int32_t, dhn_smmulr, "smmulr", "%0, %1, %2")
DHN_MEANS(DHN_WRAP(((uint64_t)((int64_t)(int32_t)a * (int32_t)b) + 0x80000000u) >> 32))

/* Bytes 0 and 2 (ror8: bytes 1 and 3), each sign-extended into a lane; the u forms extend with zeros. */
DHN_DSP1(dhn_sxtb16, "sxtb16 %0, %1")
DHN_MEANS(dhn_lanes((int8_t)(a & 0xFFu), (int8_t)((a >> 16) & 0xFFu)))
DHN_DSP1(dhn_sxtb16_ror8, "sxtb16 %0, %1, ror #8")
DHN_MEANS(dhn_lanes((int8_t)((a >> 8) & 0xFFu), (int8_t)(a >> 24)))
DHN_DSP1(dhn_uxtb16, "uxtb16 %0, %1")
DHN_MEANS(a & 0x00FF00FFu)
DHN_DSP1(dhn_uxtb16_ror8, "uxtb16 %0, %1, ror #8")
DHN_MEANS((a >> 8) & 0x00FF00FFu)

/* pkhbt: (a's bottom, b's bottom); pkhtb: (b's top, a's top), in the order (lane 0, lane 1). */
DHN_DSP2(uint32_t, dhn_pkhbt, "pkhbt", "%0, %1, %2, lsl #16")
DHN_MEANS((a & 0xFFFFu) | (b << 16))
DHN_DSP2(uint32_t, dhn_pkhtb, "pkhtb", "%0, %1, %2, asr #16")
DHN_MEANS((a & 0xFFFF0000u) | (b >> 16))

/* Lane-wise sums and differences, each modulo 2^16. */
DHN_DSP2(uint32_t, dhn_sadd16, "sadd16", "%0, %1, %2")
DHN_MEANS(dhn_lanes(dhn_lane0(a) + dhn_lane0(b), dhn_lane1(a) + dhn_lane1(b)))
DHN_DSP2(uint32_t, dhn_ssub16, "ssub16", "%0, %1, %2")
DHN_MEANS(dhn_lanes(dhn_lane0(a) - dhn_lane0(b), dhn_lane1(a) - dhn_lane1(b)))

/* acc + bytes 0 and 2 (ror8: 1 and 3) of x, sign-extended, lane by lane modulo 2^16. */
DHN_DSP2(uint32_t, dhn_sxtab16, "sxtab16", "%0, %1, %2")
DHN_MEANS(dhn_lanes(dhn_lane0(a) + (int8_t)(b & 0xFFu), dhn_lane1(a) + (int8_t)((b >> 16) & 0xFFu)))
DHN_DSP2(uint32_t, dhn_sxtab16_ror8, "sxtab16", "%0, %1, %2, ror #8")
DHN_MEANS(dhn_lanes(dhn_lane0(a) + (int8_t)((b >> 8) & 0xFFu), dhn_lane1(a) + (int8_t)(b >> 24)))

/* The larger of each pair of signed bytes. */
static inline uint32_t dhn_max_s8x4(uint32_t a, uint32_t b)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t r;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(r) : "r"(a), "r"(b));
    return r;
#else
    uint32_t r = 0;
    for (int32_t i = 0; i < 32; i += 8) {
        int8_t const x = (int8_t)(a >> i), y = (int8_t)(b >> i);
        r |= (uint32_t)(uint8_t)((x > y) ? x : y) << i;
    }
    return r;
#endif
}

static inline int32_t dhn_ssat8(int32_t x)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t r;
    __asm__("ssat %0, #8, %1" : "=r"(r) : "r"(x));
    return r;
#else
    return (x < -128) ? -128 : ((x > 127) ? 127 : x);
#endif
}

/* x >> 22, saturated to int8. */
static inline int32_t dhn_ssat8_asr22(int32_t x)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t r;
    __asm__("ssat %0, #8, %1, asr #22" : "=r"(r) : "r"(x));
    return r;
#else
    return dhn_ssat8(x >> 22);
#endif
}

/* One channel's row of the fused table (host: layouts/common.py): requantisation in three instructions. */
typedef struct {
    int32_t bias;  /* folded: bias - in_zp * sum(weights) */
    int32_t scale; /* 2 * mult - 2^32: mult in [2^30, 2^31) */
    int32_t round; /* 2^(32 - e) + 1 for a right shift by e */
} dhn_fused_t;

/* acc to the int8 range, equal to dhn_requantize for e in 2..12 and for a larger e while |acc| < 2^(32-e). Step 1: acc +
 * acc * (2m - 2^32) / 2^32, rounded, is the doubling high product t. Step 2: t * (2^(32-e) + 1) / 2^32, rounded, is t / 2^e
 * and t / 2^32 more. While |t| < 2^(32-e) that is less than the distance to the next multiple of 2^-e: it moves halves of
 * negative t down, away from zero, and nothing else. A larger t with e <= 12 saturates either way. */
static inline int32_t dhn_requantize_fused(int32_t acc, int32_t scale, int32_t round, int32_t out_zp)
{
    int32_t const t = dhn_smmlar((uint32_t)acc, (uint32_t)scale, acc);
    return dhn_ssat8(dhn_smmlar((uint32_t)t, (uint32_t)round, out_zp));
}

#undef DHN_DSP3
#undef DHN_DSP2
#undef DHN_DSP1
#undef DHN_MEANS
#undef DHN_WRAP
#undef DHN_MUL
#endif
