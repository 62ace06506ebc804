/* One inference with its ticks per segment and per operator. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RUNNER_H
#define RUNNER_H

#include <stdbool.h>
#include <stdint.h>

#include "dhn.h"

/* Called at each hook point that a run reaches, with the clock stopped; for reading features. */
typedef void runner_point_fn(void *context, uint16_t point);

typedef struct {
    dhn_model_t model;
    dhn_status_t status;  /* of loading; nothing runs unless DHN_OK */
    dhn_trace_t trace;    /* of the last run */
    uint32_t ticks;       /* of the last run: the sum of its segments */
    uint32_t input_have;  /* bytes of the next input that are in place, over all inputs in order */
    uint32_t input_bytes; /* of all inputs */
    uint32_t runs;
    uint32_t stack_bytes; /* deepest stack of the last run with `per_op`, interrupts included; 0: not known */
    /* while running */
    runner_point_fn *on_point;
    void *on_point_context;
    uint32_t since;
    uint16_t segment;
    uint16_t op; /* UINT16_MAX: none */
    uint32_t op_since;
} runner_t;

/* Loads the linked pack (model.h). On failure `status` says why. */
void runner_start(runner_t *self);

/* Puts bytes at `offset` of the concatenated inputs; `offset` must be at most input_have. False: out of range. */
bool runner_input(runner_t *self, uint32_t offset, const uint8_t *bytes, uint32_t count);

/* The stretch of memory that begins at `offset` of the concatenated inputs and stays within one input. */
uint8_t *runner_input_at(runner_t *self, uint32_t offset, uint32_t *room);

/* Runs on the input in place, which is used up. `per_op` also fills model_op_ticks, at the cost of a few ticks, and finds
 * out how deep the stack went. */
dhn_status_t runner_run(runner_t *self, uint16_t mode, uint16_t point, bool per_op, runner_point_fn *on_point,
                        void *context);

#endif
