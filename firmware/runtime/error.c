/* Error codes as sentences. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dhn.h"

const char *dhn_error(dhn_status_t status)
{
    switch (status) {
    case DHN_OK: return "no error";
    case DHN_ERR_ALIGN: return "pack or arena is not aligned to 4 bytes";
    case DHN_ERR_TRUNCATED: return "pack is shorter than its header says";
    case DHN_ERR_MAGIC: return "these bytes are not a dhn pack";
    case DHN_ERR_VERSION: return "pack has another format version";
    case DHN_ERR_KIND: return "hook bundle and main pack are mixed up";
    case DHN_ERR_CRC: return "pack is corrupted (CRC-32 differs)";
    case DHN_ERR_BOUNDS: return "pack points outside itself or the arena";
    case DHN_ERR_KERNEL: return "pack needs a kernel that is not linked";
    case DHN_ERR_PARAMS: return "pack asks a kernel for something it does not cover";
    case DHN_ERR_PROGRAM: return "pack's instructions are inconsistent";
    case DHN_ERR_ARENA: return "arena is too small for this pack";
    case DHN_ERR_BINDING: return "hook bundle belongs to another model";
    case DHN_ERR_HOOK: return "hook breaks the rules of its hook point";
    case DHN_ERR_ARGUMENT: return "no such input, point or operating point";
    default: return "unknown error";
    }
}
