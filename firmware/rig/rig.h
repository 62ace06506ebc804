/* The rig's view of a batch of cases: what the host wrote into the flash area, and what goes back over the link. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RIG_H
#define RIG_H

#include "dhn_kernels.h"

/* Generated: every kernel that this core can run, by id. */
extern const dhn_kernel_t rig_registry[];
extern const uint16_t rig_registry_count;

/* The rig's own: nothing, 1,000 and 4,000 instructions in a row (to check the counting), and a crash. */
enum { RIG_NOTHING = 0, RIG_THOUSAND = 1, RIG_FOUR_THOUSAND = 2, RIG_CRASHES = 3 };

enum { RIG_MAGIC = 0x47495244, RIG_RESULT = 0x52495244, RIG_END = 0x45495244, RIG_START = 0x53495244 };

/* Start of the flash area. All fields here and below are 32-bit words; offsets count from the start of this header. */
typedef struct {
    uint32_t magic;
    uint32_t count;
    uint32_t cases;         /* offset of rig_case_t[count] */
    uint32_t count_exactly; /* 0: two runs of each case and a rough count */
    uint32_t reserved[4];
} rig_header_t;

typedef struct {
    uint32_t kernel; /* id, or one of the rig's own functions */
    uint32_t params, consts, consts_bytes;
    uint32_t in0, in0_bytes;
    uint32_t in1, in1_bytes; /* 0 bytes: the kernel has one operand */
    uint32_t out_bytes, scratch_bytes;
    uint32_t overlap; /* 1, 2: the output starts `lead` bytes below the first, second input; 0: apart */
    uint32_t lead;
    uint32_t in_skew, out_skew; /* 0 to 3 bytes behind a multiple of 4 */
    uint32_t reserved[2];
} rig_case_t;

/* What was found out of order. */
enum {
    RIG_GUARD = 1,    /* something beside the buffers was written to */
    RIG_INPUT = 2,    /* an input that the output does not overlap has changed */
    RIG_CONSTS = 4,   /* a constant has changed */
    RIG_UNSTABLE = 8, /* a second run on the same bytes gave another output */
    RIG_UNKNOWN = 16, /* no such kernel */
    RIG_TOO_BIG = 32  /* the buffers do not fit */
};

/* Followed by out_bytes of output, padded to a multiple of 4. */
typedef struct {
    uint32_t magic; /* RIG_RESULT; RIG_START at every start, a crash's included; RIG_END behind the last case */
    uint32_t index;
    uint32_t faults;
    uint32_t runs;
    uint32_t ticks; /* sum over the runs */
    uint32_t out_bytes;
} rig_result_t;

#endif
