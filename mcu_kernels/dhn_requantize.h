/* TFLite's int32 -> int8 requantisation, as TFLite Micro rounds by default. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_REQUANTIZE_H
#define DHN_REQUANTIZE_H

#include <stdint.h>

/* High 32 bits of 2*a*b, rounded to nearest as TFLite does: it adds 2^30, or 1 - 2^30 to a negative product, and divides by
 * 2^31 towards zero, which is one shift that rounds halves up. mult is never INT32_MIN, so nothing saturates. */
static inline int32_t dhn_doubling_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* x / 2^e rounded to nearest, halves away from zero; 0 <= e <= 31. */
static inline int32_t dhn_divide_by_pot(int32_t x, int32_t e)
{
    int32_t const mask = (int32_t)(((uint32_t)1 << e) - 1u);
    int32_t const rest = x & mask;
    int32_t const half = (mask >> 1) + ((x < 0) ? 1 : 0);
    return (x >> e) + ((rest > half) ? 1 : 0);
}

/* x * mult * 2^(shift - 31); -31 <= shift <= 30. */
static inline int32_t dhn_requantize(int32_t x, int32_t mult, int32_t shift)
{
    int32_t const left = (shift > 0) ? shift : 0;
    int32_t const right = (shift > 0) ? 0 : -shift;
    return dhn_divide_by_pot(dhn_doubling_high((int32_t)((uint32_t)x << left), mult), right);
}

static inline int8_t dhn_clamp(int32_t x, int32_t low, int32_t high)
{
    return (int8_t)((x < low) ? low : ((x > high) ? high : x));
}

#endif
