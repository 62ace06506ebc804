/* The loops of Winograd F(4x4, 3x3) in C: for cores without SIMD, and what those of armv7em mean. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_WINOGRAD_4X4_LOOPS_H
#define DHN_WINOGRAD_4X4_LOOPS_H

#include "portable/winograd_4x4.h"
#include "portable/winograd_loops.h"

#define DHN_WINO_TRANSFORM(d0, d1, d2, d3, d4, d5)                                                                     \
    do {                                                                                                               \
        uint32_t const a_ = d4 - 4u * d2, b_ = d3 - 4u * d1, c_ = d4 - d2, e_ = 2u * (d3 - d1);                        \
        d0 = c_ + 4u * (d0 - d2);                                                                                      \
        d5 = (d5 - d3) - 2u * e_;                                                                                      \
        d1 = a_ + b_;                                                                                                  \
        d2 = a_ - b_;                                                                                                  \
        d3 = c_ + e_;                                                                                                  \
        d4 = c_ - e_;                                                                                                  \
    } while (0)

DHN_WINO_INNER void dhn_wino_column_pair(uint32_t d0, uint32_t d1, uint32_t d2, uint32_t d3, uint32_t d4, uint32_t d5,
                                         uint32_t *to)
{
    DHN_WINO_TRANSFORM(d0, d1, d2, d3, d4, d5);
    to[0] = d0;
    to[DHN_WINO4_COLUMNS] = d1;
    to[DHN_WINO4_COLUMNS * 2] = d2;
    to[DHN_WINO4_COLUMNS * 3] = d3;
    to[DHN_WINO4_COLUMNS * 4] = d4;
    to[DHN_WINO4_COLUMNS * 5] = d5;
}

/* `count` columns of four channels to the column transforms of two pairs, `to` being those of the first column. */
static void dhn_wino4_columns(const dhn_wino_columns_t *from, uint32_t *to, int32_t count)
{
    uint32_t const sign = 0x80808080u, bytes = 0x00FF00FFu;
    int32_t const below = from->below;
    const int8_t *p = from->p;
    for (const uint32_t *const end = to + count; to != end; to++, p += from->next) {
        uint32_t const r0 = dhn_wino_word(p) ^ sign, r1 = dhn_wino_word(p + below) ^ sign;
        uint32_t const r2 = dhn_wino_word(p + 2 * below) ^ sign, r3 = dhn_wino_word(p + 3 * below) ^ sign;
        uint32_t const r4 = dhn_wino_word(p + 4 * below) ^ sign, r5 = dhn_wino_word(p + 5 * below) ^ sign;
        dhn_wino_column_pair(r0 & bytes, r1 & bytes, r2 & bytes, r3 & bytes, r4 & bytes, r5 & bytes, to);
        dhn_wino_column_pair((r0 >> 8) & bytes, (r1 >> 8) & bytes, (r2 >> 8) & bytes, (r3 >> 8) & bytes,
                             (r4 >> 8) & bytes, (r5 >> 8) & bytes, to + 6 * DHN_WINO4_COLUMNS);
    }
}

/* Column transforms of a window to the words of its two tiles and two pairs in 36 slots. */
static void dhn_wino4_rows(const uint32_t *from, uint8_t *slot, const dhn_wino_place_t *at)
{
    uint32_t const step = at->step;
    for (uint32_t n = 0; n < 4; n++) {
        const uint32_t *d = from + (n >> 1) * 6u * DHN_WINO4_COLUMNS + (n & 1u) * 4u;
        uint8_t *to = slot + (n >> 1) * at->pair_bytes + (n & 1u) * 4u;
        for (uint32_t i = 0; i < 6; i++, d += DHN_WINO4_COLUMNS) {
            uint32_t d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3], d4 = d[4] + DHN_WINO_LIFT, d5 = d[5] + DHN_WINO_LIFT;
            DHN_WINO_TRANSFORM(d0, d1, d2, d3, d4, d5);
            dhn_wino_set_word(to, d0);
            dhn_wino_set_word(to += step, d1);
            dhn_wino_set_word(to += step, d2);
            dhn_wino_set_word(to += step, d3);
            dhn_wino_set_word(to += step, d4);
            dhn_wino_set_word(to += step, d5);
            to += step;
        }
    }
}

/* The weights' transform along one dimension. */
#define DHN_WINO_WEIGHTS(g0, g1, g2, u0, u1, u2, u3, u4, u5)                                                           \
    do {                                                                                                               \
        uint32_t const s_ = g0 + g2, t_ = g0 + 4u * g2;                                                                \
        u0 = 3u * g0;                                                                                                  \
        u1 = s_ + g1;                                                                                                  \
        u2 = s_ - g1;                                                                                                  \
        u3 = t_ + 2u * g1;                                                                                             \
        u4 = t_ - 2u * g1;                                                                                             \
        u5 = 3u * g2;                                                                                                  \
    } while (0)

/* H * 65536 + L to lanes: a negative L took one from the upper. */
DHN_WINO_INNER void dhn_wino_set_lanes(void *p, uint32_t x)
{
    dhn_wino_set_word(p, x + ((x & 0x8000u) << 1));
}

/* int8 weights of a pair of input channels, bytes `shift` bits and two above in the words of nine taps, to 36 slots. */
DHN_WINO_INNER void dhn_wino4_weight_pair(const int8_t *w, uint32_t shift, uint8_t *slot, uint32_t step)
{
    uint32_t u[18];
    for (uint32_t *to = u; to != u + 3; to++, w += 4) {
        uint32_t g[3];
        for (uint32_t i = 0; i < 3; i++) {
            g[i] = (((dhn_wino_word(w + 12u * i) >> shift) & 0x00FF00FFu) ^ 0x00800080u) - 0x00800080u;
        }
        DHN_WINO_WEIGHTS(g[0], g[1], g[2], to[0], to[3], to[6], to[9], to[12], to[15]);
    }
    for (const uint32_t *from = u; from != u + 18; from += 3, slot += step) {
        uint32_t u0, u1, u2, u3, u4, u5;
        DHN_WINO_WEIGHTS(from[0], from[1], from[2], u0, u1, u2, u3, u4, u5);
        dhn_wino_set_lanes(slot, u0);
        dhn_wino_set_lanes(slot += step, u1);
        dhn_wino_set_lanes(slot += step, u2);
        dhn_wino_set_lanes(slot += step, u3);
        dhn_wino_set_lanes(slot += step, u4);
        dhn_wino_set_lanes(slot += step, u5);
    }
}

/* int8 weights of one output channel, [groups of four input channels][9][4], to its words in 36 slots. */
static inline void dhn_wino4_weights(const int8_t *w, uint8_t *slot, const dhn_wino_place_t *at, uint32_t groups)
{
    for (; groups > 0; groups--, w += 36, slot += 2u * at->pair_bytes) {
        dhn_wino4_weight_pair(w, 0, slot, at->step);
        dhn_wino4_weight_pair(w, 8, slot + at->pair_bytes, at->step);
    }
}

/* The transform back along one dimension; the results carry the factors 1, 2, 4, 4. */
#define DHN_WINO_BACK(m0, m1, m2, m3, m4, m5, y0, y1, y2, y3)                                                          \
    uint32_t const s_ = m1 + m2, d_ = m1 - m2, p_ = m3 + m4, q_ = m3 - m4;                                             \
    uint32_t y0 = p_ + 2u * (m0 - 2u * s_), y1 = q_ - 2u * d_, y2 = p_ - s_, y3 = 2u * (q_ + m5) - d_

/* Sums of a tile to [4 columns of outputs][6 frequencies]. */
DHN_WINO_INNER void dhn_wino4_middle(const uint8_t *sums, int32_t bias, uint32_t step, uint32_t *to)
{
    for (uint32_t i = 0; i < 6; i++, to++) {
        uint32_t const m0 = dhn_wino_word(sums), m1 = dhn_wino_word(sums += step) + ((i == 1) ? (uint32_t)bias : 0);
        uint32_t const m2 = dhn_wino_word(sums += step), m3 = dhn_wino_word(sums += step);
        uint32_t const m4 = dhn_wino_word(sums += step), m5 = dhn_wino_word(sums += step);
        sums += step;
        DHN_WINO_BACK(m0, m1, m2, m3, m4, m5, y0, y1, y2, y3);
        to[0] = y0;
        to[6] = y1;
        to[12] = y2;
        to[18] = y3;
    }
}

#endif
