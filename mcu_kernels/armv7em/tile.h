/* The inner products of a group of pixels with every output channel, in assembly that leaves no register unused. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_TILE_H
#define DHN_ARMV7EM_TILE_H

#include "dsp.h"

/* The int16 buffer of a pixel group holds a word of two depths of pixel 0, the same depths of pixel 1 and so on, then the
 * next two depths. Depths come in quads (0, 2), (1, 3), the order in which SXTB16 unpacks four bytes. A step of a tile
 * takes one quad. Loops are unrolled and entered inside when the steps are no multiple of that. */

/* Two channels' requantisation: rows of dhn_fused_t in the order of use. */
typedef struct {
    int32_t bias[2];
    int32_t scale_a, round_a;
    int32_t scale_b, round_b;
} dhn_pair_t;

/* A pixel group: `x` to `x_end` in the buffer against weights and pairs of output channels. */
typedef struct {
    const int16_t *x, *x_end;
    const int8_t *weight;
    const dhn_pair_t *pair, *pair_end;
    int32_t out_c, out_zp, act_min, act_max;
    uint32_t steps;
} dhn_group_t;

/* The second channel's sum, without its bias. */
static inline int32_t dhn_second_sum(int32_t both, int32_t low)
{
    return (int32_t)((uint32_t)both - (uint32_t)low) >> 8;
}

static inline void dhn_store_pair(int8_t *out, int32_t a, int32_t b)
{
    dhn_store16(out, (uint32_t)((a & 0xFF) | (int32_t)((uint32_t)b << 8)));
}

/* Where a pixel's output lies when `count` are left. What lies behind the last one is stored where pixel 0 follows. */
static inline int32_t dhn_pixel_offset(const dhn_group_t *g, int32_t pixel, int32_t count)
{
    return (pixel < count) ? pixel * g->out_c : 0;
}

/* Three pixels by two channels, int8 weights: 17 instructions for 24 products.
 *
 * A halfword of weights is A + 256 * B for the channels A and B: SMLAD with it adds SA + 256 * SB to `both`, SMLAD with
 * its low byte, sign-extended, adds SA to `low`. Both start at A's bias, and (both - low) / 256 is SB as long as
 * |SB| < 2^23, which the host proves from the weights. One extraction for two products' weights is what this saves. */

/* Two pixels by two channels, int16 weights: 10 instructions for 16 products. */

#if defined(__ARM_FEATURE_DSP)

/* Adding this to PC, four bytes ahead of the ADD, leaves out the steps that the first round lacks. */
static inline uint32_t dhn_tile_entry(uint32_t steps, uint32_t unroll, uint32_t step_bytes)
{
    return (0u - steps) % unroll * step_bytes;
}

#define DHN_W8_STEP                                                                                                    \
    "ldrd    r0, lr, [r10], #8\n\t"                                                                                    \
    "ldmia.w r11!, {r1, r2, r3}\n\t"                                                                                   \
    "smlad   r7, r0, r1, r7\n\t"                                                                                       \
    "smlad   r8, r0, r2, r8\n\t"                                                                                       \
    "smlad   r9, r0, r3, r9\n\t"                                                                                       \
    "sxtb16  r0, r0\n\t"                                                                                               \
    "smlad   r4, r0, r1, r4\n\t"                                                                                       \
    "smlad   r5, r0, r2, r5\n\t"                                                                                       \
    "smlad   r6, r0, r3, r6\n\t"                                                                                       \
    "ldmia.w r11!, {r1, r2, r3}\n\t"                                                                                   \
    "smlad   r7, lr, r1, r7\n\t"                                                                                       \
    "smlad   r8, lr, r2, r8\n\t"                                                                                       \
    "smlad   r9, lr, r3, r9\n\t"                                                                                       \
    "sxtb16  lr, lr\n\t"                                                                                               \
    "smlad   r4, lr, r1, r4\n\t"                                                                                       \
    "smlad   r5, lr, r2, r5\n\t"                                                                                       \
    "smlad   r6, lr, r3, r6\n\t"

/* Three sums to int8: scale r2, rounding r3, output zero point lr. */
#define DHN_REQUANTIZE3(a, b, c)                                                                                       \
    "smmlar  " a ", " a ", r2, " a "\n\t"                                                                              \
    "smmlar  " b ", " b ", r2, " b "\n\t"                                                                              \
    "smmlar  " c ", " c ", r2, " c "\n\t"                                                                              \
    "smmlar  " a ", " a ", r3, lr\n\t"                                                                                 \
    "smmlar  " b ", " b ", r3, lr\n\t"                                                                                 \
    "smmlar  " c ", " c ", r3, lr\n\t"                                                                                 \
    "ssat    " a ", #8, " a "\n\t"                                                                                     \
    "ssat    " b ", #8, " b "\n\t"                                                                                     \
    "ssat    " c ", #8, " c "\n\t"

/* Channel A's sums in r4-r6 and B's in r7-r9, pair in r1, end of pairs in r0, out in r11: stored, then back to label 1 for
 * the next pair. The stack is that of the group functions below. */
#define DHN_FINISH3                                                                                                    \
    "ldrd    r2, r3, [r1, #8]\n\t" DHN_REQUANTIZE3("r4", "r5", "r6") "ldrd    r2, r3, [r1, #16]\n\t" DHN_REQUANTIZE3(  \
        "r7", "r8", "r9") "ldrd    r2, r3, [sp, #16]\n\t"                                                              \
                          "bfi     r4, r7, #8, #8\n\t"                                                                 \
                          "bfi     r5, r8, #8, #8\n\t"                                                                 \
                          "bfi     r6, r9, #8, #8\n\t"                                                                 \
                          "strh    r6, [r11, r3]\n\t"                                                                  \
                          "strh    r5, [r11, r2]\n\t"                                                                  \
                          "strh    r4, [r11], #2\n\t"                                                                  \
                          "adds    r1, #24\n\t"                                                                        \
                          "strd    r1, r11, [sp, #4]\n\t"                                                              \
                          "cmp     r1, r0\n\t"                                                                         \
                          "bne     1b\n\t"

/* Sums of channel A in r4-r6, of both in r7-r9; r10 weights, r11 buffer, r12 its end. On the stack, from sp: end of pairs,
 * pair, out, output zero point, offsets of pixels 1 and 2, entry, buffer. */
DHN_CALLED void dhn_group_w8(const dhn_group_t *g, int8_t *output, int32_t count)
{
    register const dhn_pair_t *pair_end __asm__("r0") = g->pair_end;
    register const dhn_pair_t *pair __asm__("r1") = g->pair;
    register int8_t *out __asm__("r2") = output;
    register int32_t zero __asm__("r3") = g->out_zp;
    register int32_t to1 __asm__("r4") = dhn_pixel_offset(g, 1, count);
    register int32_t to2 __asm__("r5") = dhn_pixel_offset(g, 2, count);
    register uint32_t entry __asm__("r6") = dhn_tile_entry(g->steps, 4u, 17u * 4u);
    register const int16_t *x __asm__("r7") = g->x;
    register const int8_t *w __asm__("r10") = g->weight;
    register const int16_t *x_end __asm__("r12") = g->x_end;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0-r7}\n"
        "1:\n\t"
        "ldr     r4, [r1]\n\t"
        "ldrd    r0, r11, [sp, #24]\n\t"
        "mov     r5, r4\n\t"
        "mov     r6, r4\n\t"
        "mov     r7, r4\n\t"
        "mov     r8, r4\n\t"
        "mov     r9, r4\n\t"
        "add     pc, r0\n\t"
        "nop\n"
        "2:\n\t"
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        "cmp     r11, r12\n\t"
        "bne     2b\n\t"
        "ldm.w   sp, {r0, r1, r11, lr}\n\t"
        "ldr     r2, [r1, #4]\n\t"
        "sub     r7, r7, r4\n\t"
        "sub     r8, r8, r5\n\t"
        "sub     r9, r9, r6\n\t"
        "add     r7, r2, r7, asr #8\n\t"
        "add     r8, r2, r8, asr #8\n\t"
        "add     r9, r2, r9, asr #8\n\t"
        DHN_FINISH3
        "add     sp, #32"
        : "+r"(pair_end), "+r"(pair), "+r"(out), "+r"(zero), "+r"(to1), "+r"(to2), "+r"(entry), "+r"(x), "+r"(w),
          "+r"(x_end)
        :
        : "r8", "r9", "r11", "lr", "cc", "memory");
    /* clang-format on */
}

/* One pair's sums, for kernels that requantise in C: channel A of pixels 0 to 2 with its bias, then both. Returns the
 * weights behind. */
DHN_CALLED const int8_t *dhn_sums_w8(const dhn_group_t *g, const int8_t *weight, int32_t bias, int32_t sums[6])
{
    register int32_t *to __asm__("r0") = sums;
    register int32_t start __asm__("r4") = bias;
    register uint32_t entry __asm__("r5") = dhn_tile_entry(g->steps, 4u, 17u * 4u);
    register const int8_t *w __asm__("r10") = weight;
    register const int16_t *x __asm__("r11") = g->x;
    register const int16_t *x_end __asm__("r12") = g->x_end;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0}\n\t"
        "mov     r0, r5\n\t"
        "mov     r5, r4\n\t"
        "mov     r6, r4\n\t"
        "mov     r7, r4\n\t"
        "mov     r8, r4\n\t"
        "mov     r9, r4\n\t"
        "add     pc, r0\n\t"
        "nop\n"
        "2:\n\t"
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        "cmp     r11, r12\n\t"
        "bne     2b\n\t"
        "pop     {r0}\n\t"
        "stmia   r0, {r4-r9}"
        : "+r"(to), "+r"(start), "+r"(entry), "+r"(w), "+r"(x), "+r"(x_end)
        :
        : "r1", "r2", "r3", "r6", "r7", "r8", "r9", "lr", "cc", "memory");
    /* clang-format on */
    return w;
}

/* Four depths of two channels in a word: each lane holds A and B of two depths, A and B of the next two, from the highest
 * nibble down. The mask in r12 leaves a nibble as 2^12 times its value. 19 instructions for 24 products. */
#define DHN_PACKED_LANES(shift, a, b, c)                                                                               \
    "and.w   lr, r12, r0" shift "\n\t"                                                                                 \
    "smlad   " a ", lr, r1, " a "\n\t"                                                                                 \
    "smlad   " b ", lr, r2, " b "\n\t"                                                                                 \
    "smlad   " c ", lr, r3, " c "\n\t"
#define DHN_PACKED_PAIR(shift_a, shift_b)                                                                              \
    "ldmia.w r11!, {r1, r2, r3}\n\t" DHN_PACKED_LANES(shift_a, "r4", "r5", "r6")                                       \
        DHN_PACKED_LANES(shift_b, "r7", "r8", "r9")
#define DHN_W4_STEP "ldr.w   r0, [r10], #4\n\t" DHN_PACKED_PAIR("", ", lsl #4") DHN_PACKED_PAIR(", lsl #8", ", lsl #12")

/* The same with eight depths and fields of two bits, which the mask leaves as 2^14 times their value: 37 instructions for
 * 48 products. */
#define DHN_W2_STEP                                                                                                    \
    "ldr.w   r0, [r10], #4\n\t" DHN_PACKED_PAIR("", ", lsl #2") DHN_PACKED_PAIR(", lsl #4", ", lsl #6")                \
        DHN_PACKED_PAIR(", lsl #8", ", lsl #10") DHN_PACKED_PAIR(", lsl #12", ", lsl #14")

/* Sums of channel A in r4-r6, of B in r7-r9; r10 weights, r11 buffer, r12 mask. On the stack as for dhn_group_w8, and behind
 * it the end of the buffer. */
#define DHN_GROUP_PACKED(name, unroll, step_bytes, bits, rounds)                                                       \
    DHN_CALLED void name(const dhn_group_t *g, int8_t *output, int32_t count)                                          \
    {                                                                                                                  \
        register const dhn_pair_t *pair_end __asm__("r0") = g->pair_end;                                               \
        register const dhn_pair_t *pair __asm__("r1") = g->pair;                                                       \
        register int8_t *out __asm__("r2") = output;                                                                   \
        register int32_t zero __asm__("r3") = g->out_zp;                                                               \
        register int32_t to1 __asm__("r4") = dhn_pixel_offset(g, 1, count);                                            \
        register int32_t to2 __asm__("r5") = dhn_pixel_offset(g, 2, count);                                            \
        register uint32_t entry __asm__("r6") = dhn_tile_entry(g->steps, unroll, step_bytes);                          \
        register const int16_t *x __asm__("r7") = g->x;                                                                \
        register const int16_t *x_end __asm__("r8") = g->x_end;                                                        \
        register const int8_t *w __asm__("r10") = g->weight;                                                           \
        register uint32_t mask __asm__("r12") = (0x10000u - (0x10000u >> bits)) * 0x10001u;                            \
        __asm__ volatile("push    {r0-r8}\n"                                                                           \
                         "1:\n\t"                                                                                      \
                         "ldrd    r0, r11, [sp, #24]\n\t"                                                              \
                         "mov     r4, #0\n\t"                                                                          \
                         "mov     r5, #0\n\t"                                                                          \
                         "mov     r6, #0\n\t"                                                                          \
                         "mov     r7, #0\n\t"                                                                          \
                         "mov     r8, #0\n\t"                                                                          \
                         "mov     r9, #0\n\t"                                                                          \
                         "add     pc, r0\n\t"                                                                          \
                         "nop\n"                                                                                       \
                         "2:\n\t" rounds "ldr     r0, [sp, #32]\n\t"                                                   \
                         "cmp     r11, r0\n\t"                                                                         \
                         "bne     2b\n\t"                                                                              \
                         "ldm.w   sp, {r0, r1, r11, lr}\n\t"                                                           \
                         "ldrd    r2, r3, [r1]\n\t"                                                                    \
                         "add     r4, r2, r4, asr #16 - " #bits "\n\t"                                                 \
                         "add     r5, r2, r5, asr #16 - " #bits "\n\t"                                                 \
                         "add     r6, r2, r6, asr #16 - " #bits "\n\t"                                                 \
                         "add     r7, r3, r7, asr #16 - " #bits "\n\t"                                                 \
                         "add     r8, r3, r8, asr #16 - " #bits "\n\t"                                                 \
                         "add     r9, r3, r9, asr #16 - " #bits "\n\t" DHN_FINISH3 "add     sp, #36"                   \
                         : "+r"(pair_end), "+r"(pair), "+r"(out), "+r"(zero), "+r"(to1), "+r"(to2), "+r"(entry),       \
                           "+r"(x), "+r"(x_end), "+r"(w)                                                               \
                         : "r"(mask)                                                                                   \
                         : "r9", "r11", "lr", "cc", "memory");                                                         \
    }
DHN_GROUP_PACKED(dhn_group_w4, 4u, 19u * 4u, 4, DHN_W4_STEP DHN_W4_STEP DHN_W4_STEP DHN_W4_STEP)
DHN_GROUP_PACKED(dhn_group_w2, 2u, 37u * 4u, 2, DHN_W2_STEP DHN_W2_STEP)

#define DHN_W16_STEP                                                                                                   \
    "ldmia.w r12!, {r0-r3}\n\t"                                                                                        \
    "ldmia.w lr!, {r4-r7}\n\t"                                                                                         \
    "smlad   r8, r0, r4, r8\n\t"                                                                                       \
    "smlad   r9, r0, r5, r9\n\t"                                                                                       \
    "smlad   r10, r1, r4, r10\n\t"                                                                                     \
    "smlad   r11, r1, r5, r11\n\t"                                                                                     \
    "smlad   r8, r2, r6, r8\n\t"                                                                                       \
    "smlad   r9, r2, r7, r9\n\t"                                                                                       \
    "smlad   r10, r3, r6, r10\n\t"                                                                                     \
    "smlad   r11, r3, r7, r11\n\t"

/* Sums of channel A in r8-r9, of B in r10-r11; r12 weights, lr buffer. On the stack, from sp: offset of pixel 1, end of
 * pairs, pair, out, output zero point, end of the buffer, entry, buffer. */
DHN_CALLED void dhn_group_w16(const dhn_group_t *g, int8_t *output, int32_t count)
{
    register int32_t to1 __asm__("r0") = dhn_pixel_offset(g, 1, count);
    register const dhn_pair_t *pair_end __asm__("r1") = g->pair_end;
    register const dhn_pair_t *pair __asm__("r2") = g->pair;
    register int8_t *out __asm__("r3") = output;
    register int32_t zero __asm__("r4") = g->out_zp;
    register const int16_t *x_end __asm__("r5") = g->x_end;
    register uint32_t entry __asm__("r6") = dhn_tile_entry(g->steps, 8u, 10u * 4u);
    register const int16_t *x __asm__("r7") = g->x;
    register const int8_t *w __asm__("r12") = g->weight;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0-r7}\n\t"
        "mov     r6, r2\n"
        "1:\n\t"
        "ldrd    r0, lr, [sp, #24]\n\t"
        "ldrd    r8, r10, [r6]\n\t"
        "mov     r9, r8\n\t"
        "mov     r11, r10\n\t"
        "add     pc, r0\n\t"
        "nop\n"
        "2:\n\t"
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        DHN_W16_STEP
        "ldr     r0, [sp, #20]\n\t"
        "cmp     lr, r0\n\t"
        "bne     2b\n\t"
        "ldm.w   sp, {r4-r7, lr}\n\t"
        "ldrd    r0, r1, [r6, #8]\n\t"
        "ldrd    r2, r3, [r6, #16]\n\t"
        "smmlar  r8, r8, r0, r8\n\t"
        "smmlar  r9, r9, r0, r9\n\t"
        "smmlar  r10, r10, r2, r10\n\t"
        "smmlar  r11, r11, r2, r11\n\t"
        "smmlar  r8, r8, r1, lr\n\t"
        "smmlar  r9, r9, r1, lr\n\t"
        "smmlar  r10, r10, r3, lr\n\t"
        "smmlar  r11, r11, r3, lr\n\t"
        "ssat    r8, #8, r8\n\t"
        "ssat    r9, #8, r9\n\t"
        "ssat    r10, #8, r10\n\t"
        "ssat    r11, #8, r11\n\t"
        "bfi     r8, r10, #8, #8\n\t"
        "bfi     r9, r11, #8, #8\n\t"
        "strh    r9, [r7, r4]\n\t"
        "strh    r8, [r7], #2\n\t"
        "adds    r6, #24\n\t"
        "strd    r6, r7, [sp, #8]\n\t"
        "cmp     r6, r5\n\t"
        "bne     1b\n\t"
        "add     sp, #32"
        : "+r"(to1), "+r"(pair_end), "+r"(pair), "+r"(out), "+r"(zero), "+r"(x_end), "+r"(entry), "+r"(x), "+r"(w)
        :
        : "r8", "r9", "r10", "r11", "lr", "cc", "memory");
    /* clang-format on */
}

#else

static inline void dhn_store_pixel(const dhn_group_t *g, const dhn_pair_t *pair, int8_t *out, int32_t a, int32_t b)
{
    dhn_store_pair(out, dhn_requantize_fused(a, pair->scale_a, pair->round_a, g->out_zp),
                   dhn_requantize_fused(b, pair->scale_b, pair->round_b, g->out_zp));
}

static inline void dhn_group_w8(const dhn_group_t *g, int8_t *out, int32_t count)
{
    for (int i = 2; i >= 0; i--) {
        const int8_t *w = g->weight;
        int8_t *to = out + dhn_pixel_offset(g, i, count);
        for (const dhn_pair_t *pair = g->pair; pair != g->pair_end; pair++, to += 2) {
            int32_t low = pair->bias[0], both = pair->bias[0];
            for (const int16_t *x = g->x + 2 * i; x < g->x_end; x += 6, w += 4) {
                both = dhn_smlad(dhn_load32(w), dhn_load32(x), both);
                low = dhn_smlad(dhn_sxtb16(dhn_load32(w)), dhn_load32(x), low);
            }
            dhn_store_pixel(g, pair, to, low, pair->bias[1] + dhn_second_sum(both, low));
        }
    }
}

/* Fields of `bits` in the lanes of a word, from the top down: channel A and B of a pair of depths, then of the next. */
static inline void dhn_group_packed(const dhn_group_t *g, int8_t *out, int32_t count, uint32_t bits)
{
    uint32_t const mask = (0x10000u - (0x10000u >> bits)) * 0x10001u;
    for (int i = 2; i >= 0; i--) {
        const int8_t *w = g->weight;
        int8_t *to = out + dhn_pixel_offset(g, i, count);
        for (const dhn_pair_t *pair = g->pair; pair != g->pair_end; pair++, to += 2) {
            int32_t sum[2] = {0, 0};
            for (const int16_t *x = g->x + 2 * i; x < g->x_end; w += 4) {
                for (uint32_t shift = 0; shift < 16u; shift += 2u * bits, x += 6) {
                    uint32_t const raw = dhn_load32(w) << shift;
                    sum[0] = dhn_smlad(raw & mask, dhn_load32(x), sum[0]);
                    sum[1] = dhn_smlad((raw << bits) & mask, dhn_load32(x), sum[1]);
                }
            }
            dhn_store_pixel(g, pair, to, pair->bias[0] + (sum[0] >> (16u - bits)),
                            pair->bias[1] + (sum[1] >> (16u - bits)));
        }
    }
}

static inline void dhn_group_w4(const dhn_group_t *g, int8_t *out, int32_t count)
{
    dhn_group_packed(g, out, count, 4);
}

static inline void dhn_group_w2(const dhn_group_t *g, int8_t *out, int32_t count)
{
    dhn_group_packed(g, out, count, 2);
}

static inline const int8_t *dhn_sums_w8(const dhn_group_t *g, const int8_t *w, int32_t bias, int32_t sums[6])
{
    for (int i = 0; i < 6; i++) {
        sums[i] = bias;
    }
    for (const int16_t *x = g->x; x < g->x_end; x += 6, w += 4) {
        for (int i = 0; i < 3; i++) {
            sums[i] = dhn_smlad(dhn_sxtb16(dhn_load32(w)), dhn_load32(x + 2 * i), sums[i]);
            sums[3 + i] = dhn_smlad(dhn_load32(w), dhn_load32(x + 2 * i), sums[3 + i]);
        }
    }
    return w;
}

static inline void dhn_group_w16(const dhn_group_t *g, int8_t *out, int32_t count)
{
    for (int i = 1; i >= 0; i--) {
        const int8_t *w = g->weight;
        int8_t *to = out + dhn_pixel_offset(g, i, count);
        for (const dhn_pair_t *pair = g->pair; pair != g->pair_end; pair++, to += 2) {
            int32_t a = pair->bias[0], b = pair->bias[1];
            for (const int16_t *x = g->x + 2 * i; x < g->x_end; x += 4, w += 8) {
                a = dhn_smlad(dhn_load32(w), dhn_load32(x), a);
                b = dhn_smlad(dhn_load32(w + 4), dhn_load32(x), b);
            }
            dhn_store_pixel(g, pair, to, a, b);
        }
    }
}

#endif

#endif
