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

/* Name and number of arguments of each function. `state` is a bytearray of `state_bytes()`, which belongs to one model.
 * Every call gives all buffers again, because a bytearray may move when it grows: one that is not where `load` or
 * `attach` saw it is refused. Functions that can fail return a dhn_status_t.
 *
 * state_bytes() -> bytes
 * need(pack) -> bytes of arena
 * load(state, pack, arena)
 * attach(state, pack, arena, bundle or None)
 * tensor(state, output?, i) -> bytes of input or output i
 * run(state, pack, arena, bundle or None, mode | point << 8, features or None)
 * put(state, arena, i, x) copies x into input i
 * get(state, arena, i, y) copies output i into y
 * trace(state, what, i) -> a field of the last run's trace: TRACE_*
 * point(state, i) -> bytes of hook point i's feature
 * error(status) -> text
 * environment(state, arena, 16 int8 channels) sets what hooks know about their surroundings */
#define MODULE_FUNCTIONS(ENTRY)                                                                                        \
    ENTRY(state_bytes, 0)                                                                                              \
    ENTRY(need, 1)                                                                                                     \
    ENTRY(load, 3)                                                                                                     \
    ENTRY(attach, 4)                                                                                                   \
    ENTRY(tensor, 3)                                                                                                   \
    ENTRY(run, 6)                                                                                                      \
    ENTRY(put, 4)                                                                                                      \
    ENTRY(get, 4)                                                                                                      \
    ENTRY(trace, 3)                                                                                                    \
    ENTRY(point, 2)                                                                                                    \
    ENTRY(error, 1)                                                                                                    \
    ENTRY(environment, 3)

#define MODULE_DECLARE(name, arguments) module_fn module_##name;
MODULE_FUNCTIONS(MODULE_DECLARE)
#undef MODULE_DECLARE

enum {
    TRACE_HOOKS = 0,
    TRACE_EXIT = 1,
    TRACE_DECISION = 2,
    TRACE_SCORE = 3,
    TRACE_REACHED = 4,
    TRACE_VERSION = 5,
    TRACE_POINTS = 6,
    TRACE_CHOICE = 7 /* not of the last run: the operating point for the environment, i if the bundle names none */
};

#endif
