/* PackBits: run-length code for played inputs. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "packbits.h"

#include <string.h>

int32_t packbits_decode(const uint8_t *from, uint32_t bytes, uint8_t *to, uint32_t capacity)
{
    uint32_t in = 0, out = 0;
    while (in < bytes) {
        int32_t head = (int8_t)from[in++];
        if (head == -128)
            continue;
        uint32_t count = (uint32_t)(head >= 0 ? head + 1 : 1 - head);
        uint32_t used = head >= 0 ? count : 1;
        if (used > bytes - in || count > capacity - out)
            return -1;
        if (head >= 0)
            memcpy(to + out, from + in, count);
        else
            memset(to + out, from[in], count);
        in += used;
        out += count;
    }
    return (int32_t)out;
}
