/* The functions of the module _dhn, the same for a native module (.mpy) and a user C module. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MODULE_H
#define MODULE_H

#ifdef DHN_NATMOD
#include "natmod.h"
#else
#include "py/runtime.h"
#endif

#include <stdbool.h>

#include "dhn.h"

/* The kernels that the module links. Generated. */
extern const dhn_kernel_t module_registry[];
extern const uint16_t module_registry_count;

typedef mp_obj_t module_fn(size_t count, const mp_obj_t *arguments);

/* `state` is a bytearray of `state_bytes()`, which belongs to one model. Every call gives all buffers again, because a
 * bytearray may move when it grows: one that is not where `load` or `attach` saw it is refused. Functions that can
 * fail return a dhn_status_t. */
module_fn module_state_bytes; /* () -> bytes */
module_fn module_need;        /* (pack) -> bytes of arena, or a status */
module_fn module_load;        /* (state, pack, arena) */
module_fn module_attach;      /* (state, pack, arena, bundle or None) */
module_fn module_tensor;      /* (state, output?, i) -> bytes, or a status */
module_fn module_run;         /* (state, pack, arena, bundle or None, mode | point << 8, features or None) */
module_fn module_put;         /* (state, arena, i, x) copies x into input i */
module_fn module_get;         /* (state, arena, i, y) copies output i into y */
module_fn module_trace;       /* (state, what, i) -> a field of the last run's trace: TRACE_* */
module_fn module_point;       /* (state, i) -> bytes of hook point i's feature, or a status */
module_fn module_error;       /* (status) -> text */
module_fn module_environment; /* (state, arena, 16 int8 channels) sets what hooks know about their surroundings */

enum { MODULE_FUNCTIONS = 12 };
enum { TRACE_HOOKS = 0, TRACE_EXIT = 1, TRACE_DECISION = 2, TRACE_SCORE = 3, TRACE_REACHED = 4, TRACE_VERSION = 5 };

typedef struct {
    module_fn *call;
    uint8_t least, most; /* arguments */
} module_entry_t;
extern const module_entry_t module_entries[MODULE_FUNCTIONS];

#endif
