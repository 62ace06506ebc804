/* Register tile with int8 weights that leaves out input channels: three pixels by two channels. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_TILE_GATED_H
#define DHN_ARMV7EM_TILE_GATED_H

#include "tile_w8.h"

/* The buffer is cut into runs of at most DHN_RUN_QUADS quads whose weights are one stretch too. Before each run stands a
 * header, and one more behind the last: weights to leave out before the run, in bytes, and how far to jump over the
 * steps that the run lacks, with DHN_RUN_END over all of them. Four instructions per run, whatever its length. */
enum { DHN_RUN_QUADS = 8, DHN_STEP_BYTES = 17 * 4, DHN_RUN_END = DHN_RUN_QUADS * DHN_STEP_BYTES + 4 };

typedef struct {
    uint32_t skip, jump;
} dhn_run_header_t;

static inline uint32_t dhn_run_jump(int32_t quads)
{
    return (uint32_t)(DHN_RUN_QUADS - quads) * DHN_STEP_BYTES;
}

#if defined(__ARM_FEATURE_DSP)

/* dhn_group_w8 with headers. `x` of the group is the first header; `x_end` and `steps` are not used. */
DHN_CALLED void dhn_group_gated(const dhn_group_t *g, int8_t *output, int32_t count)
{
    register const dhn_pair_t *pair_end __asm__("r0") = g->pair_end;
    register const dhn_pair_t *pair __asm__("r1") = g->pair;
    register int8_t *out __asm__("r2") = output;
    register int32_t zero __asm__("r3") = g->out_zp;
    register int32_t to1 __asm__("r4") = dhn_pixel_offset(g, 1, count);
    register int32_t to2 __asm__("r5") = dhn_pixel_offset(g, 2, count);
    register const int16_t *x __asm__("r7") = g->x;
    register const int8_t *w __asm__("r10") = g->weight;
    /* clang-format off */
    __asm__ volatile(
        "push    {r0-r7}\n"
        "1:\n\t"
        "ldr     r4, [r1]\n\t"
        "ldr     r11, [sp, #28]\n\t"
        "mov     r5, r4\n\t"
        "mov     r6, r4\n\t"
        "mov     r7, r4\n\t"
        "mov     r8, r4\n\t"
        "mov     r9, r4\n"
        "2:\n\t"
        "ldrd    r0, lr, [r11], #8\n\t"
        "add     r10, r0\n\t"
        "add     pc, lr\n\t"
        "nop\n\t"
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        DHN_W8_STEP
        "b.w     2b\n\t"
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
        : "+r"(pair_end), "+r"(pair), "+r"(out), "+r"(zero), "+r"(to1), "+r"(to2), "+r"(x), "+r"(w)
        :
        : "r6", "r8", "r9", "r11", "r12", "lr", "cc", "memory");
    /* clang-format on */
}

/* dhn_gather3 of values less the zero point, which `minus` holds negated in both lanes. */
#define DHN_GATHER3_CENTRED_STEP                                                                                       \
    "ldr     r7, [%[f0]], #4\n\t"                                                                                      \
    "ldr     r8, [%[f1]], #4\n\t"                                                                                      \
    "ldr     r9, [%[f2]], #4\n\t"                                                                                      \
    "sxtab16 r4, %[minus], r7\n\t"                                                                                     \
    "sxtab16 r5, %[minus], r8\n\t"                                                                                     \
    "sxtab16 r6, %[minus], r9\n\t"                                                                                     \
    "sxtab16 r7, %[minus], r7, ror #8\n\t"                                                                             \
    "sxtab16 r8, %[minus], r8, ror #8\n\t"                                                                             \
    "sxtab16 r9, %[minus], r9, ror #8\n\t"                                                                             \
    "stmia.w %[to]!, {r4-r9}\n\t"

DHN_CALLED uint32_t *dhn_gather3_centred(uint32_t *to, const int8_t *const from[], int32_t first, int32_t quads,
                                         uint32_t minus)
{
    const int8_t *f0 = from[0] + first, *f1 = from[1] + first, *f2 = from[2] + first;
    const int8_t *const end = f0 + 4 * quads;
    /* clang-format off */
    __asm__ volatile(
        "1:\n\t"
        DHN_GATHER3_CENTRED_STEP
        "cmp     %[f0], %[end]\n\t"
        "bne     1b"
        : [to] "+r"(to), [f0] "+r"(f0), [f1] "+r"(f1), [f2] "+r"(f2)
        : [end] "r"(end), [minus] "r"(minus)
        : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    /* clang-format on */
    return to;
}

#else

static inline void dhn_group_gated(const dhn_group_t *g, int8_t *out, int32_t count)
{
    for (int i = 2; i >= 0; i--) {
        const int8_t *w = g->weight;
        int8_t *to = out + dhn_pixel_offset(g, i, count);
        for (const dhn_pair_t *pair = g->pair; pair != g->pair_end; pair++, to += 2) {
            int32_t low = pair->bias[0], both = pair->bias[0];
            const int16_t *x = g->x;
            for (;;) {
                uint32_t const skip = dhn_load32(x), jump = dhn_load32(x + 2);
                x += 4;
                w += skip;
                if (jump == DHN_RUN_END) {
                    break;
                }
                for (uint32_t n = 2u * (DHN_RUN_QUADS - jump / DHN_STEP_BYTES); n > 0u; n--, x += 6, w += 4) {
                    both = dhn_smlad(dhn_load32(w), dhn_load32(x + 2 * i), both);
                    low = dhn_smlad(dhn_sxtb16(dhn_load32(w)), dhn_load32(x + 2 * i), low);
                }
            }
            dhn_store_pixel(g, pair, to, low, pair->bias[1] + dhn_second_sum(both, low));
        }
    }
}

static inline uint32_t *dhn_gather3_centred(uint32_t *to, const int8_t *const from[], int32_t first, int32_t quads,
                                            uint32_t minus)
{
    for (int32_t c = first; c < first + 4 * quads; c += 4, to += 6) {
        for (int i = 0; i < 3; i++) {
            uint32_t const word = dhn_load32(from[i] + c);
            to[i] = dhn_sxtab16(minus, word);
            to[3 + i] = dhn_sxtab16_ror8(minus, word);
        }
    }
    return to;
}

#endif

#endif
