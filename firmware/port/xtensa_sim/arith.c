/* The integer helpers that GCC calls and that Debian's LX106 libgcc leaves to the chip's ROM. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>

uint32_t __udivsi3(uint32_t a, uint32_t b);
uint32_t __umodsi3(uint32_t a, uint32_t b);
int32_t __divsi3(int32_t a, int32_t b);
uint64_t __umulsidi3(uint32_t a, uint32_t b);
int64_t __muldi3(int64_t a, int64_t b);
int64_t __divdi3(int64_t a, int64_t b);
uint64_t __udivdi3(uint64_t a, uint64_t b);
uint64_t __udivmoddi4(uint64_t a, uint64_t b, uint64_t *rest); /* libgcc has this one */

/* The rest goes to `rest`; a division by zero gives all ones, like RISC-V. */
static uint32_t divide(uint32_t a, uint32_t b, uint32_t *rest)
{
    uint32_t quotient = 0;
    if (b == 0u) {
        *rest = a;
        return UINT32_MAX;
    }
    if (a >= b) {
        for (int32_t i = __builtin_clz(b) - __builtin_clz(a); i >= 0; i--) {
            quotient <<= 1;
            if (a >= b << i) {
                a -= b << i;
                quotient |= 1u;
            }
        }
    }
    *rest = a;
    return quotient;
}

uint32_t __udivsi3(uint32_t a, uint32_t b)
{
    uint32_t rest;
    return divide(a, b, &rest);
}

uint32_t __umodsi3(uint32_t a, uint32_t b)
{
    uint32_t rest;
    (void)divide(a, b, &rest);
    return rest;
}

int32_t __divsi3(int32_t a, int32_t b)
{
    uint32_t const quotient = __udivsi3(a < 0 ? 0u - (uint32_t)a : (uint32_t)a, b < 0 ? 0u - (uint32_t)b : (uint32_t)b);
    return (int32_t)((a ^ b) < 0 ? 0u - quotient : quotient);
}

/* The core multiplies to 32 bits: four products of 16-bit halves. */
uint64_t __umulsidi3(uint32_t a, uint32_t b)
{
    uint32_t const al = a & 0xFFFFu, ah = a >> 16, bl = b & 0xFFFFu, bh = b >> 16;
    uint32_t const low = al * bl;
    uint32_t const cross = al * bh + (low >> 16); /* at most (2^16 - 1) * 2^16: no carry */
    uint32_t const middle = ah * bl + (cross & 0xFFFFu);
    uint32_t const high = ah * bh + (cross >> 16) + (middle >> 16);
    return ((uint64_t)high << 32) | (uint32_t)(a * b);
}

int64_t __muldi3(int64_t a, int64_t b)
{
    uint32_t const al = (uint32_t)a, bl = (uint32_t)b;
    uint32_t const ah = (uint32_t)((uint64_t)a >> 32), bh = (uint32_t)((uint64_t)b >> 32);
    uint64_t const low = __umulsidi3(al, bl);
    return (int64_t)(low + ((uint64_t)(al * bh + ah * bl) << 32));
}

uint64_t __udivdi3(uint64_t a, uint64_t b)
{
    uint64_t rest;
    return __udivmoddi4(a, b, &rest);
}

int64_t __divdi3(int64_t a, int64_t b)
{
    uint64_t const quotient = __udivdi3(a < 0 ? 0u - (uint64_t)a : (uint64_t)a, b < 0 ? 0u - (uint64_t)b : (uint64_t)b);
    return (int64_t)((a ^ b) < 0 ? 0u - quotient : quotient);
}
