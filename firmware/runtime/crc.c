/* CRC-32 by half bytes: 64 bytes of table instead of 1,024. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn.h"

uint32_t dhn_crc32(uint32_t crc, const void *data, uint32_t bytes)
{
    /* Entry n is n shifted four times through the reflected polynomial 0xEDB88320. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    const uint8_t *p = data;
    crc = ~crc;
    for (const uint8_t *const end = p + bytes; p != end; p++) {
        crc = table[(crc ^ *p) & 15u] ^ (crc >> 4);
        crc = table[(crc ^ ((uint32_t)*p >> 4)) & 15u] ^ (crc >> 4);
    }
    return ~crc;
}
