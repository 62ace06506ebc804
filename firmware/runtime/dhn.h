/* dhn runtime: loads a pack, attaches hooks, runs one inference in a static arena. This header is its manual. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_H
#define DHN_H

#include <stddef.h>
#include <stdint.h>

#include "dhn_format.h"
#include "dhn_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Most kernels that one pack may name. Costs one pointer each in dhn_model_t, twice. */
#ifndef DHN_MAX_KERNELS
#define DHN_MAX_KERNELS 32
#endif
/* Most hooks in one bundle. Costs three bytes each in dhn_trace_t. */
#ifndef DHN_MAX_HOOKS
#define DHN_MAX_HOOKS 32
#endif
/* Most selections that one pack may have, group 0 included. Costs a byte each on the stack of a gated run. */
#ifndef DHN_MAX_GROUPS
#define DHN_MAX_GROUPS 64
#endif

/* Zero is success, every error is negative. None of them leaves a model half changed. */
typedef enum {
    DHN_OK = 0,
    DHN_ERR_ALIGN = -1,     /* pack or arena does not start at a multiple of 4 */
    DHN_ERR_TRUNCATED = -2, /* fewer bytes than the header says */
    DHN_ERR_MAGIC = -3,     /* not a pack */
    DHN_ERR_VERSION = -4,   /* a pack of another format version */
    DHN_ERR_KIND = -5,      /* a hook bundle where a main pack belongs, or the reverse */
    DHN_ERR_CRC = -6,       /* the bytes have changed */
    DHN_ERR_BOUNDS = -7,    /* an offset or size reaches outside pack or arena */
    DHN_ERR_KERNEL = -8,    /* names a kernel that this firmware does not link, or too many */
    DHN_ERR_PARAMS = -9,    /* parameters that their kernel does not allow */
    DHN_ERR_PROGRAM = -10,  /* instructions that do not follow one another, or jump wrongly */
    DHN_ERR_ARENA = -11,    /* the arena is smaller than the pack needs */
    DHN_ERR_BINDING = -12,  /* the bundle is made for another main pack */
    DHN_ERR_HOOK = -13,     /* a hook of the bundle breaks its point's rules */
    DHN_ERR_ARGUMENT = -14  /* the caller asked for something that is not there */
} dhn_status_t;

/* How to run. All zero: gated, at operating point 0. */
typedef enum {
    DHN_GATED = 0,   /* hooks decide and act */
    DHN_SHADOW = 1,  /* hooks decide, nothing acts: the full network's answer, with every score */
    DHN_DETACHED = 2 /* as if no bundle were attached */
} dhn_mode_t;

/* Called during a run, from the same stack. Either may be NULL. */
typedef struct {
    void *context;
    /* Before each operator of the main program (index counts from 0), and once after the last that ran, with
     * index UINT16_MAX. Hook programs are not reported. */
    void (*on_op)(void *context, uint16_t index);
    /* At each hook point that is reached, before its hooks. */
    void (*on_point)(void *context, uint16_t point);
} dhn_observer_t;

typedef struct {
    uint16_t operating_point;
    uint16_t mode;                  /* dhn_mode_t */
    const dhn_observer_t *observer; /* NULL: none */
} dhn_run_t;

enum { DHN_NOT_REACHED = 0, DHN_KEPT = 1, DHN_ACTED = 2 };

/* What happened in one run. */
typedef struct {
    int16_t exit_hook; /* number of the hook that ended the run, -1: none, or a blend of the full run's answer */
    uint16_t hook_count;
    uint8_t decision[DHN_MAX_HOOKS]; /* DHN_NOT_REACHED (or off), DHN_KEPT, DHN_ACTED (in shadow: would have) */
    int16_t score[DHN_MAX_HOOKS];    /* the value compared with the threshold */
} dhn_trace_t;

/* A loaded model. The caller owns the memory of all four; they must outlive the model. Do not touch the fields. */
typedef struct {
    const uint8_t *pack;
    const uint8_t *bundle; /* NULL: detached */
    uint8_t *arena;
    const dhn_kernel_t *registry;
    uint16_t registry_count;
    dhn_kernel_fn *kernel[DHN_MAX_KERNELS];
    dhn_kernel_fn *hook_kernel[DHN_MAX_KERNELS];
    uint8_t reference; /* whether `keep` holds an answer that may be reused */
} dhn_model_t;

/* Checks every offset, shape and jump of the main pack at `pack` (aligned to 4, `bytes` readable) and prepares `self` to
 * run it in `arena` (aligned to 4). `registry` lists the kernels that this program links. Reads the whole pack once for
 * the CRC. After success no input can make dhn_run touch memory outside pack, bundle and arena. */
dhn_status_t dhn_load(dhn_model_t *self, const void *pack, uint32_t bytes, void *arena, uint32_t arena_bytes,
                      const dhn_kernel_t *registry, uint16_t registry_count);

/* Checks a hook bundle against the loaded pack and attaches it, replacing what was attached. On error the former one
 * stays. Not while a run is under way. */
dhn_status_t dhn_attach(dhn_model_t *self, const void *bundle, uint32_t bytes);
void dhn_detach(dhn_model_t *self);

/* Where to put input `i` and where to find output `i`: canonical int8 (h, w, c) bytes inside the arena, NULL if there is
 * no such tensor. An input's bytes do not survive the run: write them again each time. */
int8_t *dhn_input(const dhn_model_t *self, uint16_t i, uint32_t *bytes);
int8_t *dhn_output(const dhn_model_t *self, uint16_t i, uint32_t *bytes);

/* One inference. `how` may be NULL (gated, operating point 0), `trace` may be NULL. Interruptible, not re-entrant on the
 * same model, re-entrant on different models with different arenas. */
dhn_status_t dhn_run(dhn_model_t *self, const dhn_run_t *how, dhn_trace_t *trace);

/* The environment: DHN_ENVIRONMENT int8 channels that hooks may read, written by the application between runs. NULL where
 * the pack has no room for hooks. */
int8_t *dhn_environment(const dhn_model_t *self);

/* The operating point that the attached bundle's policy wants in this environment: the first row that holds; `fallback`
 * where none does. */
uint16_t dhn_choose_point(const dhn_model_t *self, uint16_t fallback);

/* The default feature of a hook point: its tap averaged over windows, int8 in the tap's quantisation. Only from
 * on_point, while the tap is alive. Returns the number of bytes written or DHN_ERR_ARGUMENT (no such point, or
 * `capacity` too small). */
int32_t dhn_feature(const dhn_model_t *self, uint16_t point, int8_t *out, uint32_t capacity);
uint32_t dhn_feature_bytes(const dhn_model_t *self, uint16_t point);

const dhn_header_t *dhn_header(const dhn_model_t *self);
const dhn_header_t *dhn_bundle_header(const dhn_model_t *self); /* NULL when detached */
const dhn_point_t *dhn_points(const dhn_model_t *self);
const dhn_hook_t *dhn_hooks(const dhn_model_t *self); /* NULL when detached */

/* A constant sentence without the code, for logs. */
const char *dhn_error(dhn_status_t status);

/* CRC-32 (IEEE 802.3, reflected) of `bytes` at `data`, continuing from `crc` (start with 0). */
uint32_t dhn_crc32(uint32_t crc, const void *data, uint32_t bytes);

#ifdef __cplusplus
}
#endif

#endif
