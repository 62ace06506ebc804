/* The inner loops of exact integer Winograd F(4x4, 3x3): in Thumb-2 for the core, in C for the host twin. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_WINOGRAD_4X4_TILES_H
#define DHN_ARMV7EM_WINOGRAD_4X4_TILES_H

#include "dsp.h"

/* Naked functions take their arguments from registers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* In one dimension, six values d of the input and three weights g give four outputs y of the correlation by
 *
 *   V = B d                    U = G g                     24 y = A (U V), written with the factors of its rows apart:
 *   4 d0 - 5 d2 + d4           3 g0                        y0 = 1 * (2 m0 - 4 m1 - 4 m2 + m3 + m4)
 *   d4 - 4 d2 + (d3 - 4 d1)    g0 + g1 + g2                y1 = 2 * (-2 m1 + 2 m2 + m3 - m4)
 *   d4 - 4 d2 - (d3 - 4 d1)    g0 - g1 + g2                y2 = 4 * (-m1 - m2 + m3 + m4)
 *   d4 - d2 + 2 (d3 - d1)      g0 + 2 g1 + 4 g2            y3 = 4 * (-m1 + m2 + 2 m3 - 2 m4 + 2 m5)
 *   d4 - d2 - 2 (d3 - d1)      g0 - 2 g1 + 4 g2
 *   4 d1 - 5 d3 + d5           3 g2
 *
 * all integers; in two dimensions the same along rows and along columns, and 576 y. |U| <= 49 * 128. */

/* A slot per frequency: for each pair of channels a word of four tiles each, then the sums [2 channels][4 tiles]. */
#define DHN_WINO_FREQUENCIES 36
#define DHN_WINO_SUM_BYTES 32
/* A window is two tiles side by side: ten columns; its column transform is [2 pairs][6 frequencies][10 columns]. */
#define DHN_WINO_COLUMNS 10
/* Words hold two channels as H * 65536 + L, integers modulo 2^32, so that sums take shifted operands. A negative L would
 * take one from the upper lane: this constant, added to pixels (4,4), (4,5), (5,4), (5,5) of every tile's lower lane, adds
 * just itself to every frequency. Pixels are x + 128 in 0..255: every |V| is below 50 * 255 = 12,750, but frequency (1, 1)
 * in -32 * 255..68 * 255, so L is in 0..30,090 and H in -12,750..17,340. The host's table takes its effect back. */
#define DHN_WINO_LIFT 12750u

/* Per output channel (host: layouts/winograd.py). Outputs (2,2), (2,3), (3,2), (3,3) see the lifted pixels. */
typedef struct {
    int32_t bias;      /* 36 * folded bias: what frequency (1, 1) needs */
    int32_t unlift[4]; /* by column: outputs (2,2), (3,2), (2,3), (3,3), at 36 times the output */
    int32_t mult;
    int32_t round; /* 2^(32 - e) + 1 */
} dhn_wino_channel_t;

/* Where a tile's outputs go and how sums are found: step is the bytes of a slot. */
typedef struct {
    uint32_t step, step3, step5;
    uint32_t row_bytes, pixel_bytes;
    int32_t out_zp;
} dhn_wino_place_t;

#define DHN_WINO_K 14913081 /* 2^33 / 576, rounded */

#define DHN_WINO_TRANSFORM(d0, d1, d2, d3, d4, d5)                                                                     \
    do {                                                                                                               \
        uint32_t const a_ = d4 - 4u * d2, b_ = d3 - 4u * d1;                                                           \
        uint32_t const c_ = d4 - d2, e_ = d3 - d1;                                                                     \
        d0 = c_ + 4u * (d0 - d2);                                                                                      \
        d5 = (d5 - d3) - 4u * e_;                                                                                      \
        d1 = a_ + b_;                                                                                                  \
        d2 = a_ - b_;                                                                                                  \
        d3 = c_ + 2u * e_;                                                                                             \
        d4 = c_ - 2u * e_;                                                                                             \
    } while (0)

/* Where columns are: bytes from a pixel to the one below and to the next column's. */
typedef struct {
    const int8_t *p;
    int32_t below, next;
} dhn_wino_columns_t;

#if defined(__ARM_FEATURE_DSP)
#define DHN_WINO_TRANSFORM_TEXT(d0, d1, d2, d3, d4, d5, t) /* as DHN_WINO_TRANSFORM */                                 \
    "sub " d0 ", " d0 ", " d2 "\n\t"                                                                                   \
    "sub " d5 ", " d5 ", " d3 "\n\t"                                                                                   \
    "sub " t ", " d4 ", " d2 ", lsl #2\n\t"                                                                            \
    "sub " d4 ", " d4 ", " d2 "\n\t"                                                                                   \
    "sub " d2 ", " d3 ", " d1 ", lsl #2\n\t"                                                                           \
    "sub " d3 ", " d3 ", " d1 "\n\t"                                                                                   \
    "add " d1 ", " t ", " d2 "\n\t"                                                                                    \
    "sub " d2 ", " t ", " d2 "\n\t"                                                                                    \
    "add " d0 ", " d4 ", " d0 ", lsl #2\n\t"                                                                           \
    "sub " d5 ", " d5 ", " d3 ", lsl #2\n\t"                                                                           \
    "add " t ", " d4 ", " d3 ", lsl #1\n\t"                                                                            \
    "sub " d4 ", " d4 ", " d3 ", lsl #1\n\t" /* frequency 3 is in t */
#define DHN_WINO_PAIR_TEXT(d0, d1, d2, d3, d4, d5, rotate, to)                                                         \
    "mov r1, #0x00800080\n\t"                                                                                          \
    "sxtab16 " d0 ", r1, r4" rotate "\n\t"                                                                             \
    "sxtab16 " d1 ", r1, r5" rotate "\n\t"                                                                             \
    "sxtab16 " d2 ", r1, r6" rotate "\n\t"                                                                             \
    "sxtab16 " d3 ", r1, r7" rotate "\n\t"                                                                             \
    "sxtab16 " d4 ", r1, r8" rotate "\n\t"                                                                             \
    "sxtab16 " d5 ", r1, r9" rotate                                                                                    \
    "\n\t" DHN_WINO_TRANSFORM_TEXT(d0, d1, d2, d3, d4, d5, "r1") "str " d0 ", [r2, #" to "]\n\t"                       \
                                                                 "str " d1 ", [r2, #" to " + 40]\n\t"                  \
                                                                 "str " d2 ", [r2, #" to " + 80]\n\t"                  \
                                                                 "str r1, [r2, #" to " + 120]\n\t"                     \
                                                                 "str " d4 ", [r2, #" to " + 160]\n\t"                 \
                                                                 "str " d5 ", [r2, #" to " + 200]\n\t"

/* `count` columns of four channels to the column transforms of two pairs, `to` being those of the first column. */
__attribute__((naked, noipa)) static void dhn_wino_columns(const dhn_wino_columns_t *from, uint32_t *to, int32_t count)
{
    __asm__("push {r4-r11, lr}\n\t"
            "add r2, r1, r2, lsl #2\n\t"
            "ldm r0, {r4-r6}\n\t"
            "push {r2, r4-r6}\n\t" /* end, pixel, below, next */
            "mov r2, r1\n\t"
            "1: add r12, sp, #4\n\t"
            "ldm r12, {r0, r1, r3}\n\t"
            "add r12, r0, r1\n\t"
            "ldr r4, [r0]\n\t"
            "ldr r5, [r0, r1]\n\t"
            "ldr r6, [r0, r1, lsl #1]\n\t"
            "ldr r7, [r12, r1, lsl #1]\n\t"
            "ldr r8, [r0, r1, lsl #2]\n\t"
            "ldr r9, [r12, r1, lsl #2]\n\t"
            "add r0, r0, r3\n\t"
            "str r0, [sp, #4]\n\t" DHN_WINO_PAIR_TEXT("r0", "r3", "r10", "r11", "r12", "lr", "", "0")
                DHN_WINO_PAIR_TEXT("r4", "r5", "r6", "r7", "r8", "r9", ", ror #8", "240") "ldr r0, [sp]\n\t"
                                                                                          "add r2, r2, #4\n\t"
                                                                                          "cmp r2, r0\n\t"
                                                                                          "bne 1b\n\t"
                                                                                          "add sp, sp, #16\n\t"
                                                                                          "pop {r4-r11, pc}\n\t");
}

/* Column transforms of a window to its two tiles' words of two pairs in 36 slots; `at` starts with the slots' steps. */
__attribute__((naked, noipa)) static void dhn_wino_rows(const uint32_t *from, uint8_t *slot, const dhn_wino_place_t *at)
{
    __asm__("push {r1, r4-r11, lr}\n\t"
            "ldm r2, {r2-r4}\n\t"
            "mov r10, r4\n\t"
            "movw r12, #12750\n\t" /* DHN_WINO_LIFT */
            "mov lr, #4\n\t"
            "1:\n\t"
            ".rept 6\n\t"
            "ldm r0, {r4-r9}\n\t"
            "add r0, r0, #40\n\t"
            "add r8, r8, r12\n\t"
            "add r9, r9, r12\n\t" DHN_WINO_TRANSFORM_TEXT(
                "r4", "r5", "r6", "r7", "r8", "r9",
                "r11") "str r4, [r1]\n\t"
                       "str r5, [r1, r2]\n\t"
                       "str r6, [r1, r2, lsl #1]\n\t"
                       "str r11, [r1, r3]\n\t"
                       "str r8, [r1, r2, lsl #2]\n\t"
                       "str r9, [r1, r10]\n\t"
                       "add r1, r1, r3, lsl #1\n\t"
                       ".endr\n\t"
                       "ldr r1, [sp]\n\t"
                       "subs lr, lr, #1\n\t"
                       "beq 3f\n\t"
                       "tst lr, #1\n\t"
                       "beq 2f\n\t"
                       "add r1, r1, #16\n\t" /* the same tile of the second pair: its words follow */
                       "b 1b\n\t"
                       "2: add r1, r1, #4\n\t" /* the second tile of the first pair */
                       "str r1, [sp]\n\t"
                       "sub r0, r0, #464\n\t"
                       "b 1b\n\t"
                       "3: pop {r1, r4-r11, pc}\n\t");
}
#else
static void dhn_wino_columns(const dhn_wino_columns_t *from, uint32_t *to, int32_t count)
{
    for (int32_t n = 0; n < count * 2; n++) {
        int32_t const column = n >> 1, pair = n & 1;
        uint32_t d[6];
        for (int32_t i = 0; i < 6; i++) {
            uint32_t const bytes = dhn_load32(from->p + column * from->next + i * from->below) ^ 0x80808080u;
            d[i] = pair ? dhn_uxtb16_ror8(bytes) : dhn_uxtb16(bytes);
        }
        DHN_WINO_TRANSFORM(d[0], d[1], d[2], d[3], d[4], d[5]);
        for (int32_t i = 0; i < 6; i++) {
            to[(pair * 6 + i) * DHN_WINO_COLUMNS + column] = d[i];
        }
    }
}

static void dhn_wino_rows(const uint32_t *from, uint8_t *slot, const dhn_wino_place_t *at)
{
    for (uint32_t n = 0; n < 24; n++) {
        uint32_t const row = n >> 2, pair = (n >> 1) & 1u, tile = n & 1u;
        uint32_t d[6];
        memcpy(d, from + (pair * 6u + row) * DHN_WINO_COLUMNS + tile * 4u, sizeof d);
        d[4] += DHN_WINO_LIFT;
        d[5] += DHN_WINO_LIFT;
        DHN_WINO_TRANSFORM(d[0], d[1], d[2], d[3], d[4], d[5]);
        for (uint32_t j = 0; j < 6; j++) {
            dhn_store32(slot + (row * 6u + j) * at->step + pair * 16u + tile * 4u, d[j]);
        }
    }
}
#endif

#if defined(__ARM_FEATURE_DSP)
/* v: 36 slots; u: [36][pairs][2 channels] words. The sums of each slot, over 1 <= pairs <= 32. 11 instructions for 16
 * products, with every register in use: hence the return into the unrolled loop by way of the stack. */
__attribute__((naked, noipa)) static void dhn_wino_sums(uint8_t *v, const uint8_t *u, uint32_t pairs, uint8_t *end)
{
    __asm__("push {r3-r11, lr}\n\t"
            "sub r2, r2, #1\n\t"
            "mov r4, #44\n\t" /* bytes of a pair's code below */
            "mul r2, r2, r4\n\t"
            "adr r4, 2f\n\t"
            "sub r4, r4, r2\n\t"
            "orr r4, r4, #1\n\t"
            "push {r4}\n\t"
            ".balign 4\n"
            "1: ldrd r2, r3, [r1], #8\n\t"
            "ldrd r12, lr, [r0], #8\n\t"
            "smuad r4, r12, r2\n\t"
            "smuad r5, lr, r2\n\t"
            "smuad r8, r12, r3\n\t"
            "smuad r9, lr, r3\n\t"
            "ldrd r12, lr, [r0], #8\n\t"
            "smuad r6, r12, r2\n\t"
            "smuad r7, lr, r2\n\t"
            "smuad r10, r12, r3\n\t"
            "smuad r11, lr, r3\n\t"
            "ldr pc, [sp]\n\t"
            ".rept 31\n\t"
            "ldrd r2, r3, [r1], #8\n\t"
            "ldrd r12, lr, [r0], #8\n\t"
            "smlad r4, r12, r2, r4\n\t"
            "smlad r5, lr, r2, r5\n\t"
            "smlad r8, r12, r3, r8\n\t"
            "smlad r9, lr, r3, r9\n\t"
            "ldrd r12, lr, [r0], #8\n\t"
            "smlad r6, r12, r2, r6\n\t"
            "smlad r7, lr, r2, r7\n\t"
            "smlad r10, r12, r3, r10\n\t"
            "smlad r11, lr, r3, r11\n\t"
            ".endr\n"
            "2: stm r0!, {r4-r11}\n\t"
            "ldr r2, [sp, #4]\n\t"
            "cmp r0, r2\n\t"
            "bne 1b\n\t"
            "add sp, sp, #8\n\t"
            "pop {r4-r11, pc}\n\t");
}
#else
static void dhn_wino_sums(uint8_t *v, const uint8_t *u, uint32_t pairs, uint8_t *end)
{
    for (; v != end; v += pairs * 16u + DHN_WINO_SUM_BYTES) {
        int32_t sums[2][4] = {{0}};
        for (uint32_t i = 0; i < pairs * 8u; i++) {
            uint32_t const pair = i >> 3, channel = (i >> 2) & 1u, tile = i & 3u;
            sums[channel][tile] = dhn_smlad(dhn_load32(v + pair * 16u + tile * 4u),
                                            dhn_load32(u + pair * 8u + channel * 4u), sums[channel][tile]);
        }
        memcpy(v + pairs * 16u, sums, sizeof sums);
        u += pairs * 8u;
    }
}
#endif

#if defined(__ARM_FEATURE_DSP)
#define DHN_WINO_BACK_TEXT /* m in r4..r9 to y in r4, r5, r7, r9 */                                                    \
    "add r7, r7, r8\n\t"                                                                                               \
    "sub r8, r7, r8, lsl #1\n\t"                                                                                       \
    "add r5, r5, r6\n\t"                                                                                               \
    "sub r6, r5, r6, lsl #1\n\t"                                                                                       \
    "sub r4, r4, r5, lsl #1\n\t"                                                                                       \
    "add r4, r7, r4, lsl #1\n\t"                                                                                       \
    "sub r7, r7, r5\n\t"                                                                                               \
    "sub r5, r8, r6, lsl #1\n\t"                                                                                       \
    "add r8, r8, r9\n\t"                                                                                               \
    "rsb r9, r6, r8, lsl #1\n\t"
#define DHN_WINO_ROW_TEXT(bias, i) /* six sums of a row of frequencies */                                              \
    "ldr r4, [r0]\n\t"                                                                                                 \
    "ldr r5, [r0, r1]\n\t"                                                                                             \
    "ldr r6, [r0, r1, lsl #1]\n\t"                                                                                     \
    "ldr r7, [r0, r2]\n\t"                                                                                             \
    "ldr r8, [r0, r1, lsl #2]\n\t"                                                                                     \
    "ldr r9, [r0, r3]\n\t"                                                                                             \
    "add r0, r0, r2, lsl #1\n\t" bias DHN_WINO_BACK_TEXT "str r4, [sp, #" #i "*4]\n\t"                                 \
    "str r5, [sp, #" #i "*4 + 24]\n\t"                                                                                 \
    "str r7, [sp, #" #i "*4 + 48]\n\t"                                                                                 \
    "str r9, [sp, #" #i "*4 + 72]\n\t"
#define DHN_WINO_UNLIFT_TEXT(x)                                                                                        \
    "ldr r6, [sp, #100]\n\t"                                                                                           \
    "ldrd r6, r8, [r6, #" #x "*8 - 12]\n\t"                                                                            \
    "add r7, r7, r6\n\t"                                                                                               \
    "add r9, r9, r8\n\t"
#define DHN_WINO_COLUMN_TEXT(x, unlift, k0, k1, k2) /* four outputs, one above the other */                            \
    "add r4, sp, #" #x "*24\n\t"                                                                                       \
    "ldm r4, {r4-r9}\n\t" DHN_WINO_BACK_TEXT unlift "smmulr r4, r4, " k0 "\n\t"                                        \
    "smmulr r5, r5, " k1 "\n\t"                                                                                        \
    "smmulr r7, r7, " k2 "\n\t"                                                                                        \
    "smmulr r9, r9, " k2 "\n\t"                                                                                        \
    "smmulr r4, r4, r2\n\t"                                                                                            \
    "smmulr r5, r5, r2\n\t"                                                                                            \
    "smmulr r7, r7, r2\n\t"                                                                                            \
    "smmulr r9, r9, r2\n\t"                                                                                            \
    "smmlar r4, r4, r3, r12\n\t"                                                                                       \
    "smmlar r5, r5, r3, r12\n\t"                                                                                       \
    "smmlar r7, r7, r3, r12\n\t"                                                                                       \
    "smmlar r9, r9, r3, r12\n\t"                                                                                       \
    "ssat r4, #8, r4\n\t"                                                                                              \
    "ssat r5, #8, r5\n\t"                                                                                              \
    "ssat r7, #8, r7\n\t"                                                                                              \
    "ssat r9, #8, r9\n\t"                                                                                              \
    "add r6, r0, r1, lsl #1\n\t"                                                                                       \
    "strb r4, [r0]\n\t"                                                                                                \
    "strb r5, [r0, r1]\n\t"                                                                                            \
    "strb r7, [r6]\n\t"                                                                                                \
    "strb r9, [r6, r1]\n\t"
#define DHN_WINO_NEXT_TEXT                                                                                             \
    "ldr r6, [sp, #104]\n\t"                                                                                           \
    "add r0, r0, r6\n\t"

/* One tile's 16 outputs of one channel. 2 acc is exact because |576 acc| < 2^31: K is off by 0.112, times 2^31 / 2^32. */
__attribute__((naked, noipa)) static void dhn_wino_outputs(const uint8_t *sums, int8_t *out,
                                                           const dhn_wino_channel_t *c, const dhn_wino_place_t *at)
{
    __asm__("push {r1-r11, lr}\n\t"
            "sub sp, sp, #96\n\t"
            "ldr r10, [r2]\n\t"
            "ldm r3, {r1-r3}\n\t" /* slots: 1, 3, 5 */
            DHN_WINO_ROW_TEXT("", 0) DHN_WINO_ROW_TEXT("add r5, r5, r10\n\t", 1) DHN_WINO_ROW_TEXT("", 2)
                DHN_WINO_ROW_TEXT("", 3) DHN_WINO_ROW_TEXT("", 4)
                    DHN_WINO_ROW_TEXT("", 5) "add r4, sp, #96\n\t"
                                             "ldm r4, {r0, r5, r6}\n\t"   /* out, c, at */
                                             "ldrd r1, r4, [r6, #12]\n\t" /* bytes of a row, of a pixel */
                                             "ldr r12, [r6, #20]\n\t"     /* zero point */
                                             "ldrd r2, r3, [r5, #20]\n\t" /* mult, round */
                                             "str r4, [sp, #104]\n\t"
                                             "movw r10, #36409\n\t" /* DHN_WINO_K, times 1, 2, 4; then 8 and 16 */
                                             "movt r10, #227\n\t"
                                             "lsl r11, r10, #1\n\t"
                                             "lsl lr, r10, #2\n\t" DHN_WINO_COLUMN_TEXT(0, "", "r10", "r11", "lr")
                                                 DHN_WINO_NEXT_TEXT
            "lsl r10, r10, #3\n\t" DHN_WINO_COLUMN_TEXT(1, "", "r11", "lr", "r10") DHN_WINO_NEXT_TEXT
            "lsl r11, r11, #3\n\t" DHN_WINO_COLUMN_TEXT(2, DHN_WINO_UNLIFT_TEXT(2), "lr", "r10", "r11")
                DHN_WINO_NEXT_TEXT DHN_WINO_COLUMN_TEXT(3, DHN_WINO_UNLIFT_TEXT(3), "lr", "r10",
                                                        "r11") "add sp, sp, #108\n\t"
                                                               "pop {r4-r11, pc}\n\t");
}
#else
/* The transform back along one dimension; the results carry the factors 1, 2, 4, 4. */
#define DHN_WINO_BACK(m0, m1, m2, m3, m4, m5, y)                                                                       \
    do {                                                                                                               \
        uint32_t const s_ = m1 + m2, d_ = m1 - m2, p_ = m3 + m4, q_ = m3 - m4;                                         \
        (y)[0] = p_ + 2u * (m0 - 2u * s_);                                                                             \
        (y)[1] = q_ - 2u * d_;                                                                                         \
        (y)[2] = p_ - s_;                                                                                              \
        (y)[3] = 2u * (q_ + m5) - d_;                                                                                  \
    } while (0)

static void dhn_wino_outputs(const uint8_t *sums, int8_t *out, const dhn_wino_channel_t *c, const dhn_wino_place_t *at)
{
    uint32_t mid[6][4];
    for (uint32_t i = 0; i < 6; i++, sums += 6u * at->step) {
        uint32_t m[6];
        for (uint32_t j = 0; j < 6; j++) {
            m[j] = dhn_load32(sums + j * at->step);
        }
        m[1] += (i == 1) ? (uint32_t)c->bias : 0;
        DHN_WINO_BACK(m[0], m[1], m[2], m[3], m[4], m[5], mid[i]);
    }
    static const uint8_t factor[4] = {0, 1, 2, 2}; /* log2 */
    for (uint32_t x = 0; x < 4; x++) {
        uint32_t y[4];
        DHN_WINO_BACK(mid[0][x], mid[1][x], mid[2][x], mid[3][x], mid[4][x], mid[5][x], y);
        if (x >= 2) {
            y[2] += (uint32_t)c->unlift[2 * x - 4];
            y[3] += (uint32_t)c->unlift[2 * x - 3];
        }
        for (uint32_t r = 0; r < 4; r++) {
            /* |576 acc| < 2^31, so 2 acc is exact: the error of K is 0.112, times 2^31 / 2^32 */
            int32_t const acc2 = dhn_smmulr(y[r], (uint32_t)DHN_WINO_K << (factor[x] + factor[r]));
            int32_t const t = dhn_smmulr((uint32_t)acc2, (uint32_t)c->mult);
            out[r * at->row_bytes + x * at->pixel_bytes] =
                (int8_t)dhn_ssat8(dhn_smmlar((uint32_t)t, (uint32_t)c->round, at->out_zp));
        }
    }
}
#endif

#pragma GCC diagnostic pop

#endif
