/* Register tiles with weights of four or two bits: three pixels by two channels. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_TILE_PACKED_H
#define DHN_ARMV7EM_TILE_PACKED_H

#include "tile.h"

#if defined(__ARM_FEATURE_DSP)

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

#else

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

#endif

#endif
