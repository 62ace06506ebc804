/* One inference with its ticks per segment and per operator. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "runner.h"

#include <string.h>

#include "hal.h"
#include "model.h"

/* Deepest stack that is looked for, and what untouched words of it hold. */
enum { STACK_WATCHED = 16384, STACK_MARGIN = 128 };
#define STACK_UNTOUCHED 0x5AC35AC3u

/* The watched words below this frame, without a margin for the callee that writes them. */
static volatile uint32_t *watched(uintptr_t top, uintptr_t *end)
{
    uintptr_t const limit = (uintptr_t)hal_stack_limit();
    uintptr_t const from = (top - limit > STACK_WATCHED) ? top - STACK_WATCHED : limit;
    *end = top - STACK_MARGIN;
    return (volatile uint32_t *)((from + 3u) & ~(uintptr_t)3u);
}

static void mark_stack(uintptr_t top)
{
    uintptr_t end;
    for (volatile uint32_t *word = watched(top, &end); (uintptr_t)word < end; word++)
        *word = STACK_UNTOUCHED;
}

static uint32_t stack_used(uintptr_t top)
{
    uintptr_t end;
    volatile uint32_t *word = watched(top, &end);
    while ((uintptr_t)word < end && *word == STACK_UNTOUCHED)
        word++;
    return (uint32_t)(top - (uintptr_t)word);
}

void runner_start(runner_t *self)
{
    memset(self, 0, sizeof *self);
    self->status = dhn_load(&self->model, model_pack, model_pack_bytes, model_arena, model_arena_bytes, model_registry,
                            model_registry_count);
    uint32_t bytes = 0;
    for (uint16_t i = 0; self->status == DHN_OK && dhn_input(&self->model, i, &bytes) != NULL; i++)
        self->input_bytes += bytes;
}

uint8_t *runner_input_at(runner_t *self, uint32_t offset, uint32_t *room)
{
    uint32_t bytes = 0;
    int8_t *at;
    for (uint16_t i = 0; (at = dhn_input(&self->model, i, &bytes)) != NULL; i++) {
        if (offset < bytes) {
            *room = bytes - offset;
            return (uint8_t *)at + offset;
        }
        offset -= bytes;
    }
    *room = 0;
    return NULL;
}

bool runner_input(runner_t *self, uint32_t offset, const uint8_t *bytes, uint32_t count)
{
    if (offset > self->input_have || count > self->input_bytes - offset)
        return false;
    uint32_t end = offset + count;
    while (offset < end) {
        uint32_t room;
        uint8_t *to = runner_input_at(self, offset, &room);
        uint32_t part = room < end - offset ? room : end - offset;
        memcpy(to, bytes, part);
        bytes += part;
        offset += part;
    }
    if (end > self->input_have)
        self->input_have = end;
    return true;
}

static void close_segment(runner_t *self, uint32_t now)
{
    model_segment_ticks[self->segment] += now - self->since;
    self->ticks += now - self->since;
}

static void close_op(runner_t *self, uint32_t now)
{
    if (self->op < model_ops)
        model_op_ticks[self->op] += now - self->op_since;
}

static void point_reached(void *context, uint16_t point)
{
    runner_t *self = context;
    uint32_t now = hal_ticks();
    close_segment(self, now);
    close_op(self, now);
    self->op = UINT16_MAX; /* hooks that run here are nobody's operator */
    self->segment = (uint16_t)(point + 1);
    if (self->on_point != NULL)
        self->on_point(self->on_point_context, point);
    self->since = hal_ticks();
}

static void op_reached(void *context, uint16_t index)
{
    runner_t *self = context;
    close_op(self, hal_ticks());
    self->op = index;
    self->op_since = hal_ticks();
}

dhn_status_t runner_run(runner_t *self, uint16_t mode, uint16_t point, bool per_op, runner_point_fn *on_point,
                        void *context)
{
    const dhn_observer_t observer = {.context = self, .on_op = per_op ? op_reached : NULL, .on_point = point_reached};
    const dhn_run_t how = {.operating_point = point, .mode = mode, .observer = &observer};
    memset(model_segment_ticks, 0, model_segments * sizeof *model_segment_ticks);
    if (per_op)
        memset(model_op_ticks, 0, model_ops * sizeof *model_op_ticks);
    memset(&self->trace, 0, sizeof self->trace);
    self->on_point = on_point;
    self->on_point_context = context;
    self->ticks = 0;
    self->segment = 0;
    self->op = UINT16_MAX;
    self->input_have = 0;
    uintptr_t const top = (uintptr_t)__builtin_frame_address(0);
    bool const watch = per_op && hal_stack_limit() != NULL;
    if (watch)
        mark_stack(top);
    self->since = hal_ticks();
    dhn_status_t status = dhn_run(&self->model, &how, &self->trace);
    close_segment(self, hal_ticks());
    self->stack_bytes = watch ? stack_used(top) : 0u;
    self->runs++;
    return status;
}
