/* What the runtime's own files share; not for applications. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_INTERNAL_H
#define DHN_INTERNAL_H

#include <stdbool.h>

#include "dhn.h"

/* Kept out of line: called from several places, and the runtime is made small. */
#define DHN_APART __attribute__((noinline))

/* The stretch of memory that instructions of one pack may use. */
typedef struct {
    const uint8_t *pack;
    uint32_t pack_bytes;
    uint32_t arena_bytes;
    uint16_t kernel_count;
    const uint16_t *kernel_ids;
    const dhn_kernel_t *entry[DHN_MAX_KERNELS];
} dhn_space_t;

static inline bool dhn_inside(uint32_t offset, uint32_t bytes, uint32_t limit)
{
    return offset <= limit && bytes <= limit - offset;
}

/* The record at `offset`, NULL when it does not lie inside the pack as a whole. */
const dhn_instr_t *dhn_instr_at(const dhn_space_t *space, uint32_t offset);

/* Whether a RUN instruction's operands and parameters are ones its kernel can take. `written`: bytes that it writes, from
 * its `out` on; where these are strided they count the gaps. */
dhn_status_t dhn_verify_run(const dhn_space_t *space, const dhn_instr_t *instr, uint32_t *written);

/* The product of sizes below 2^16, UINT32_MAX where it is larger than that: no memory holds as much. */
uint32_t dhn_volume(uint32_t h, uint32_t w, uint32_t c);

static inline const void *dhn_params(const dhn_instr_t *instr)
{
    return instr + 1;
}

#endif
