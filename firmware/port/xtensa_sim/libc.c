/* The memory functions of string.h for a core without a C library. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

/* Words where both sides allow it: the core faults on unaligned ones. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((((uintptr_t)t | (uintptr_t)f) & 3u) == 0u) {
        for (; bytes >= 4u; bytes -= 4u, t += 4, f += 4)
            *(uint32_t *)(void *)t = *(const uint32_t *)(const void *)f;
    }
    while (bytes-- > 0u)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t <= f)
        return memcpy(to, from, bytes); /* which copies upwards */
    while (bytes-- > 0u)
        t[bytes] = f[bytes];
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    uint8_t *t = to;
    uint32_t const word = (uint8_t)value * 0x01010101u;
    for (; bytes > 0u && ((uintptr_t)t & 3u) != 0u; bytes--)
        *t++ = (uint8_t)value;
    for (; bytes >= 4u; bytes -= 4u, t += 4)
        *(uint32_t *)(void *)t = word;
    while (bytes-- > 0u)
        *t++ = (uint8_t)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;
    for (; bytes > 0u; bytes--, x++, y++) {
        if (*x != *y)
            return *x - *y;
    }
    return 0;
}

size_t strlen(const char *text)
{
    size_t count = 0;
    while (text[count] != '\0')
        count++;
    return count;
}
