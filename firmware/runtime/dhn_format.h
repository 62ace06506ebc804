/* The .dhn pack as C structures: what FORMAT.md specifies byte by byte, read in place from flash. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_FORMAT_H
#define DHN_FORMAT_H

#include <stdint.h>

#define DHN_MAGIC 0x314E4844u /* "DHN1", little-endian */
#define DHN_FORMAT_VERSION 2u

enum { DHN_KIND_MAIN = 1, DHN_KIND_HOOKS = 2 };

/* A reference names bytes by offset. Bit 31 set: a constant in the pack that holds the instruction, at the offset
 * in the other bits. Bit 31 clear: the arena. */
#define DHN_REF_CONST 0x80000000u

/* First bytes of every pack. All offsets count from the start of the pack and are multiples of 4. */
typedef struct {
    uint32_t magic;
    uint16_t version;
    uint8_t kind;
    uint8_t flavour;      /* of the kernels that the weights are laid out for: 0 ref */
    uint32_t bytes;       /* of the pack on the device, this header included */
    uint32_t crc32;       /* over bytes [16, bytes) */
    uint8_t hash[16];     /* first half of SHA-256 over bytes [48, bytes): the pack's identity */
    uint8_t bound_to[16]; /* hook bundle: `hash` of its main pack; main pack: zeros */
    uint32_t arena_bytes; /* bundle: the same as the main pack's */
    uint32_t kernels;     /* uint16_t id[kernel_count] */
    uint32_t io;          /* dhn_io_tensor_t[input_count + output_count], inputs first */
    uint32_t program;     /* main: first instruction */
    uint32_t program_bytes;
    uint32_t points; /* dhn_point_t[point_count] */
    uint32_t hooks;  /* dhn_hook_t[hook_count] */
    uint16_t kernel_count;
    uint16_t input_count;
    uint16_t output_count;
    uint16_t point_count;
    uint16_t hook_count;
    uint16_t operating_points; /* rows of thresholds in a bundle */
    uint32_t bundle_version;   /* monotonic; main pack: 0 */
    uint32_t keep;             /* arena offset of the bytes that hooks own, from run to run: DHN_ENVIRONMENT first */
    uint32_t keep_bytes;
    uint32_t policies; /* bundle: dhn_policy_t[policy_count] */
    uint32_t ranges;   /* bundle: dhn_range_t[range_count] */
    uint16_t policy_count;
    uint16_t range_count;
    uint16_t group_count; /* main pack: selections, group 0 included; 0: none */
    uint16_t reserved;
} dhn_header_t;

typedef struct {
    uint32_t ref; /* arena */
    uint32_t bytes;
    uint16_t h, w, c;
    int16_t zero_point;
    uint32_t scale; /* the bits of an IEEE-754 float; the runtime never computes with it */
} dhn_io_tensor_t;

enum { DHN_INSTR_RUN = 0, DHN_INSTR_POINT = 1, DHN_INSTR_END = 2 };

/* One instruction. A RUN is followed by the parameters of its kernel (dhn_kernels.h). */
typedef struct {
    uint16_t bytes; /* of the record with its parameters, a multiple of 4 */
    uint8_t kind;
    uint8_t kernel; /* RUN: index into the pack's kernel table */
    uint16_t index; /* RUN: number of the operator, for observers; POINT: number of the hook point */
    uint8_t group;  /* RUN, POINT: executed only while this group's selection is `variant`; 0: always */
    uint8_t variant;
    uint32_t in0, in1, out; /* references; unused ones are 0 */
    uint32_t scratch;       /* arena */
    uint32_t scratch_bytes;
} dhn_instr_t;

/* A place where hooks may act. With nothing attached, execution falls through. */
typedef struct {
    uint32_t instr; /* offset of its POINT instruction */
    uint32_t tap;   /* the tensor that hooks read here */
    uint32_t tap_scale;
    int16_t tap_zero_point;
    uint16_t tap_h, tap_w, tap_c;
    uint16_t window_h, window_w; /* the default feature is the tap averaged over windows of this size */
    uint32_t scratch;            /* arena bytes that are dead here and that hooks may use */
    uint32_t scratch_bytes;
    uint32_t skip_to;  /* offset of the instruction at which a skip continues; 0: nothing to skip here */
    uint32_t skip_src; /* the shortcut's tensor, live here */
    uint32_t skip_dst; /* the tensor that a skip's repair must write, identical with skip_src or apart from it */
    uint32_t skip_bytes;
} dhn_point_t;

enum {
    DHN_ACTION_EXIT = 1,   /* `answer` becomes the output, the run ends */
    DHN_ACTION_SKIP = 2,   /* `then` repairs, the run goes on behind the branch */
    DHN_ACTION_SELECT = 3, /* selection `group` becomes `variant` */
    DHN_ACTION_MASK = 4,   /* every score is a gate of its own: see DHN_MASK_GROUPS */
    DHN_ACTION_REUSE = 5,  /* `answer`, which is the last computed output, becomes the output, the run ends */
    DHN_ACTION_BLEND = 6   /* as an exit, but of a run that left nothing out */
};

/* A mask opens gate i when score[i] >= threshold. Without this flag, `answer` gets a byte per gate, 1 open or 0 shut, and
 * where one is shut the selection `group` becomes `variant`. With it, selection `group` + i becomes `variant` where gate
 * i is open and `variant` + 1 where it is shut; all of them stay 0 while every gate is open. */
enum { DHN_MASK_GROUPS = 1 };

/* What is compared with the threshold, from the int8 scores. It acts when the value is >= the threshold. */
enum {
    DHN_DECIDE_VALUE = 0, /* score[0] */
    DHN_DECIDE_MARGIN = 1 /* largest minus second largest */
};
#define DHN_THRESHOLD_NEVER INT32_MAX        /* the hook is not even evaluated */
#define DHN_THRESHOLD_SILENT (INT32_MAX - 1) /* evaluated, for what it leaves to others, but it never acts */

/* The first bytes of `keep`: what the application knows about its surroundings, int8, one byte per channel. */
#define DHN_ENVIRONMENT 16u

typedef struct {
    uint16_t point;
    uint8_t action;
    uint8_t decide;
    uint32_t program;   /* offset in the bundle: computes the scores; ends with END */
    uint32_t then;      /* offset of what runs when the hook acts (softmax, repair); 0: nothing */
    uint32_t otherwise; /* offset of what runs when it was asked and does not act; 0: nothing */
    uint32_t score;     /* arena */
    uint32_t score_count;
    uint32_t answer; /* exit, blend, reuse: arena bytes that become output 0; mask: where the gates' bytes go */
    uint32_t answer_bytes;
    uint32_t thresholds; /* offset of int32_t[operating_points] */
    uint8_t group;       /* select, mask */
    uint8_t variant;
    uint16_t flags;
} dhn_hook_t;

/* A row of the table that chooses the operating point: it holds while low <= environment[channel] <= high. */
typedef struct {
    uint16_t point;
    uint8_t channel;
    int8_t low;
    int8_t high;
    uint8_t reserved[3];
} dhn_policy_t;

/* What calibration saw of one statistic; for a monitor that notices when the board's inputs are others. The runtime only
 * checks that the table is there: the application defines the kinds. */
typedef struct {
    uint8_t kind;
    uint8_t index;
    uint16_t operating_point;
    int32_t low, high;
} dhn_range_t;

#endif
