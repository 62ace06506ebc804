/* The loops of Winograd kernels that no tile size changes, in C: for cores without SIMD, and the meaning of armv7em's. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_LOOPS_H
#define DHN_WINOGRAD_LOOPS_H

#include "portable/winograd.h"

/* Whether columns may start anywhere. */
enum { DHN_WINO_READS_UNALIGNED = 0 };

#define DHN_WINO_INNER static inline __attribute__((always_inline))

/* Slots, weights and columns are aligned to 4. */
DHN_WINO_INNER uint32_t dhn_wino_word(const void *p)
{
    uint32_t x;
    memcpy(&x, __builtin_assume_aligned(p, 4), sizeof x);
    return x;
}

DHN_WINO_INNER void dhn_wino_set_word(void *p, uint32_t x)
{
    memcpy(__builtin_assume_aligned(p, 4), &x, sizeof x);
}

DHN_WINO_INNER int32_t dhn_wino_lane(const uint8_t *p, int32_t lane)
{
    int16_t x;
    memcpy(&x, __builtin_assume_aligned(p + 2 * lane, 2), sizeof x);
    return x;
}

/* Products of four words with two, of a pair of input channels, modulo 2^32: a of the first of the two, b of the second. */
typedef struct {
    uint32_t a0, a1, a2, a3, b0, b1, b2, b3;
} dhn_wino_sums_t;

/* *sum += a * b, at once: GCC would add products of several steps first, and run out of registers. */
DHN_WINO_INNER void dhn_wino_mac(uint32_t *sum, int32_t a, int32_t b)
{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB >= 2
    __asm("mla %0, %1, %2, %0" : "+r"(*sum) : "r"(a), "r"(b));
#elif defined(__riscv) && defined(__riscv_mul)
    int32_t product;
    __asm("mul %1, %2, %3\n\tadd %0, %0, %1" : "+r"(*sum), "=&r"(product) : "r"(a), "r"(b));
#elif defined(__XTENSA__)
    int32_t product;
    __asm("mull %1, %2, %3\n\tadd %0, %0, %1" : "+r"(*sum), "=&r"(product) : "r"(a), "r"(b));
#else
    *sum += (uint32_t)(a * b);
    __asm("" : "+r"(*sum));
#endif
}

DHN_WINO_INNER void dhn_wino_products(dhn_wino_sums_t *s, const uint8_t *four, const uint8_t *two, int32_t lane)
{
    int32_t const a = dhn_wino_lane(two, lane), b = dhn_wino_lane(two + 4, lane);
    int32_t const x0 = dhn_wino_lane(four, lane), x1 = dhn_wino_lane(four + 4, lane);
    dhn_wino_mac(&s->a0, a, x0);
    dhn_wino_mac(&s->b0, b, x0);
    dhn_wino_mac(&s->a1, a, x1);
    dhn_wino_mac(&s->b1, b, x1);
    int32_t const x2 = dhn_wino_lane(four + 8, lane), x3 = dhn_wino_lane(four + 12, lane);
    dhn_wino_mac(&s->a2, a, x2);
    dhn_wino_mac(&s->b2, b, x2);
    dhn_wino_mac(&s->a3, a, x3);
    dhn_wino_mac(&s->b3, b, x3);
}

DHN_WINO_INNER void dhn_wino_set_sums(uint8_t *to, const dhn_wino_sums_t *s)
{
    memcpy(__builtin_assume_aligned(to, 4), s, sizeof *s);
}

/* v: slots up to `end`; u: [frequencies][pairs][4 output channels] words. Sums of each slot, [2 tiles][4 output channels];
 * pairs are even. */
static inline void dhn_wino_sums(uint8_t *v, const uint8_t *u, uint32_t pairs, uint8_t *end)
{
    for (; v != end; v += DHN_WINO_SUM_BYTES) {
        dhn_wino_sums_t s = {0, 0, 0, 0, 0, 0, 0, 0};
        for (const uint8_t *const last = v + pairs * 8u; v != last; v += 16, u += 32) {
            dhn_wino_products(&s, u, v, 0);
            dhn_wino_products(&s, u, v, 1);
            dhn_wino_products(&s, u + 16, v + 8, 0);
            dhn_wino_products(&s, u + 16, v + 8, 1);
        }
        dhn_wino_set_sums(v, &s);
    }
}

/* The same with four tiles' words and then two output channels' words in the slots: [2 output channels][4 tiles]. */
static inline void dhn_wino_sums_inside(uint8_t *v, uint32_t pairs, uint8_t *end)
{
    for (; v != end; v += DHN_WINO_SUM_BYTES) {
        dhn_wino_sums_t s = {0, 0, 0, 0, 0, 0, 0, 0};
        for (const uint8_t *const last = v + pairs * 24u; v != last; v += 24) {
            dhn_wino_products(&s, v, v + 16, 0);
            dhn_wino_products(&s, v, v + 16, 1);
        }
        dhn_wino_set_sums(v, &s);
    }
}

/* What a loop does with sums: outputs of the row `channel` of the table. */
typedef void dhn_wino_output_t(const uint8_t *sums, int8_t *out, const void *channel, const dhn_wino_place_t *at);

/* The same for all rows up to at->end, `bytes` each. */
DHN_WINO_INNER void dhn_wino_outputs(dhn_wino_output_t *output, uint32_t bytes, const uint8_t *sums, int8_t *out,
                                     const void *channel, const dhn_wino_place_t *at)
{
    for (const uint8_t *c = channel; c != at->end; c += bytes, sums += at->channel_bytes, out++) {
        output(sums, out, c, at);
    }
}

#endif
