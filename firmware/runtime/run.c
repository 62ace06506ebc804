/* Executes a loaded pack, asking attached hooks at their points. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "internal.h"

const dhn_header_t *dhn_header(const dhn_model_t *self)
{
    return (const void *)self->pack;
}

const dhn_header_t *dhn_bundle_header(const dhn_model_t *self)
{
    return (const void *)self->bundle;
}

const dhn_point_t *dhn_points(const dhn_model_t *self)
{
    return (const void *)(self->pack + dhn_header(self)->points);
}

const dhn_hook_t *dhn_hooks(const dhn_model_t *self)
{
    return (self->bundle == NULL) ? NULL : (const void *)(self->bundle + dhn_bundle_header(self)->hooks);
}

static const dhn_io_tensor_t *io_table(const dhn_model_t *self)
{
    return (const void *)(self->pack + dhn_header(self)->io);
}

static int8_t *io_bytes(const dhn_model_t *self, const dhn_io_tensor_t *tensor, uint32_t *bytes)
{
    if (bytes != NULL) {
        *bytes = tensor->bytes;
    }
    return (int8_t *)(self->arena + tensor->ref);
}

int8_t *dhn_input(const dhn_model_t *self, uint16_t i, uint32_t *bytes)
{
    return (i < dhn_header(self)->input_count) ? io_bytes(self, io_table(self) + i, bytes) : NULL;
}

int8_t *dhn_output(const dhn_model_t *self, uint16_t i, uint32_t *bytes)
{
    const dhn_header_t *const h = dhn_header(self);
    return (i < h->output_count) ? io_bytes(self, io_table(self) + h->input_count + i, bytes) : NULL;
}

int8_t *dhn_environment(const dhn_model_t *self)
{
    const dhn_header_t *const h = dhn_header(self);
    return (h->keep_bytes < DHN_ENVIRONMENT) ? NULL : (int8_t *)(self->arena + h->keep);
}

uint16_t dhn_choose_point(const dhn_model_t *self, uint16_t fallback)
{
    const dhn_header_t *const bundle = dhn_bundle_header(self);
    const int8_t *const environment = dhn_environment(self);
    uint16_t const rows = (bundle == NULL || environment == NULL) ? 0u : bundle->policy_count;
    for (uint16_t i = 0; i < rows; i++) {
        const dhn_policy_t *const row = (const dhn_policy_t *)(const void *)(self->bundle + bundle->policies) + i;
        if (environment[row->channel] >= row->low && environment[row->channel] <= row->high) {
            return row->point;
        }
    }
    return fallback;
}

static inline const int8_t *operand(const uint8_t *pack, const uint8_t *arena, uint32_t ref)
{
    return (const int8_t *)((ref & DHN_REF_CONST) ? pack + (ref & ~DHN_REF_CONST) : arena + ref);
}

static inline void execute(const dhn_instr_t *instr, const uint8_t *pack, uint8_t *arena, dhn_kernel_fn *const *kernel)
{
    dhn_io_t io;
    io.in0 = operand(pack, arena, instr->in0);
    io.in1 = operand(pack, arena, instr->in1);
    io.out = (int8_t *)(arena + instr->out);
    io.scratch = arena + instr->scratch;
    io.consts = pack;
    kernel[instr->kernel](dhn_params(instr), &io);
}

static void run_hook_program(const dhn_model_t *self, uint32_t at)
{
    for (;;) {
        const dhn_instr_t *const instr = (const void *)(self->bundle + at);
        if (instr->kind == DHN_INSTR_END) {
            return;
        }
        execute(instr, self->bundle, self->arena, self->hook_kernel);
        at += instr->bytes;
    }
}

/* The number that is compared with the threshold; a single score's margin is its distance from the lowest value. */
static int32_t hook_value(const dhn_hook_t *hook, const int8_t *score)
{
    int32_t first = score[0];
    if (hook->decide == DHN_DECIDE_VALUE) {
        return first;
    }
    int32_t second = INT8_MIN;
    for (uint32_t i = 1; i < hook->score_count; i++) {
        if (score[i] > first) {
            second = first;
            first = score[i];
        } else if (score[i] > second) {
            second = score[i];
        }
    }
    return first - second;
}

/* State of one run. */
typedef struct {
    uint8_t selected[DHN_MAX_GROUPS];
    dhn_model_t *self;
    const dhn_run_t *how;
    dhn_trace_t *trace;
    const dhn_hook_t *renews; /* the reuse hook that wants this run's answer, NULL: none */
    uint16_t next_hook;       /* hooks are sorted by point, points by instruction */
    bool gated;
} run_t;

/* Opens and shuts gates by their scores. Returns how many are open. */
static int32_t set_mask(run_t *run, const dhn_hook_t *hook, int32_t threshold)
{
    const int8_t *const score = (const int8_t *)run->self->arena + hook->score;
    int32_t open = 0;
    for (uint32_t i = 0; i < hook->score_count; i++) {
        open += score[i] >= threshold || threshold == DHN_THRESHOLD_SILENT;
    }
    if (run->how->mode == DHN_SHADOW || (uint32_t)open == hook->score_count) {
        return open;
    }
    if ((hook->flags & DHN_MASK_GROUPS) == 0u) {
        run->selected[hook->group] = hook->variant;
    }
    for (uint32_t i = 0; i < hook->score_count; i++) {
        bool const on = score[i] >= threshold;
        if ((hook->flags & DHN_MASK_GROUPS) != 0u) {
            run->selected[hook->group + i] = (uint8_t)(hook->variant + !on);
        } else {
            run->self->arena[hook->answer + i] = on;
        }
    }
    return open;
}

/* Whether the hook acts. A mask has acted by then. */
static bool hook_wants(run_t *run, const dhn_hook_t *hook)
{
    const int32_t *const thresholds = (const void *)(run->self->bundle + hook->thresholds);
    int32_t const threshold = thresholds[run->how->operating_point];
    if (threshold == DHN_THRESHOLD_NEVER) {
        return false;
    }
    run_hook_program(run->self, hook->program);
    int32_t value;
    bool wants;
    if (hook->action == DHN_ACTION_MASK) {
        value = set_mask(run, hook, threshold);
        wants = (uint32_t)value < hook->score_count;
    } else {
        value = hook_value(hook, (const int8_t *)run->self->arena + hook->score);
        if (hook->action == DHN_ACTION_REUSE && !run->self->reference) {
            value = INT16_MIN; /* what it was compared with is nobody's input */
        }
        wants = value >= threshold && value != INT16_MIN;
    }
    run->trace->score[run->next_hook] = (int16_t)value;
    run->trace->decision[run->next_hook] = wants ? DHN_ACTED : DHN_KEPT;
    bool const acts = wants && run->how->mode != DHN_SHADOW;
    uint32_t const program = acts ? hook->then : hook->otherwise;
    if (program != 0u) {
        run_hook_program(run->self, program);
    }
    if (hook->action == DHN_ACTION_REUSE && !acts) {
        run->renews = hook;
    }
    return acts;
}

/* Asks the hooks of a point. Returns the offset to continue at, 0 to end the run. */
static uint32_t at_point(run_t *run, uint16_t index, uint32_t next)
{
    dhn_model_t *const self = run->self;
    const dhn_hook_t *const hooks = dhn_hooks(self);
    uint16_t const count = dhn_bundle_header(self)->hook_count;
    while (run->next_hook < count && hooks[run->next_hook].point < index) {
        run->next_hook++;
    }
    for (; run->next_hook < count && hooks[run->next_hook].point == index; run->next_hook++) {
        const dhn_hook_t *const hook = &hooks[run->next_hook];
        if (!hook_wants(run, hook)) {
            continue;
        }
        if (hook->action == DHN_ACTION_SKIP) {
            return dhn_points(self)[index].skip_to;
        }
        if (hook->action == DHN_ACTION_SELECT) {
            run->selected[hook->group] = hook->variant;
        } else if (hook->action != DHN_ACTION_MASK) {
            run->trace->exit_hook = (int16_t)(hook->action == DHN_ACTION_BLEND ? -1 : run->next_hook);
            memmove(dhn_output(self, 0, NULL), self->arena + hook->answer, hook->answer_bytes);
            return 0;
        }
    }
    return next;
}

static void execute_main(run_t *run)
{
    dhn_model_t *const self = run->self;
    const dhn_observer_t *const observer = run->how->observer;
    uint32_t at = dhn_header(self)->program;
    while (at != 0u) {
        const dhn_instr_t *const instr = (const void *)(self->pack + at);
        at += instr->bytes;
        if (instr->group != 0u && run->selected[instr->group] != instr->variant) {
            continue;
        }
        if (instr->kind == DHN_INSTR_RUN) {
            if (observer != NULL && observer->on_op != NULL) {
                observer->on_op(observer->context, instr->index);
            }
            execute(instr, self->pack, self->arena, self->kernel);
        } else if (instr->kind == DHN_INSTR_POINT) {
            if (observer != NULL && observer->on_point != NULL) {
                observer->on_point(observer->context, instr->index);
            }
            if (run->gated) {
                at = at_point(run, instr->index, at);
            }
        } else {
            break;
        }
    }
    if (observer != NULL && observer->on_op != NULL) {
        observer->on_op(observer->context, UINT16_MAX);
    }
}

dhn_status_t dhn_run(dhn_model_t *self, const dhn_run_t *how, dhn_trace_t *trace)
{
    static const dhn_run_t plain = {0, DHN_GATED, NULL};
    dhn_trace_t unwanted;
    if (trace == NULL) {
        trace = &unwanted;
    }
    run_t run;
    memset(&run, 0, sizeof run);
    run.self = self;
    run.how = (how != NULL) ? how : &plain;
    run.trace = trace;
    run.gated = self->bundle != NULL && run.how->mode != DHN_DETACHED;
    memset(trace, 0, sizeof *trace);
    trace->exit_hook = -1;
    if (run.gated) {
        if (run.how->operating_point >= dhn_bundle_header(self)->operating_points) {
            return DHN_ERR_ARGUMENT;
        }
        trace->hook_count = dhn_bundle_header(self)->hook_count;
    }
    execute_main(&run);
    if (run.renews != NULL) {
        memmove(self->arena + run.renews->answer, dhn_output(self, 0, NULL), run.renews->answer_bytes);
        self->reference = 1u;
    }
    return DHN_OK;
}

static uint32_t windows(uint32_t size, uint32_t window)
{
    return (size + window - 1u) / window;
}

uint32_t dhn_feature_bytes(const dhn_model_t *self, uint16_t point)
{
    if (point >= dhn_header(self)->point_count) {
        return 0;
    }
    const dhn_point_t *const p = &dhn_points(self)[point];
    return windows(p->tap_h, p->window_h) * windows(p->tap_w, p->window_w) * p->tap_c;
}

int32_t dhn_feature(const dhn_model_t *self, uint16_t point, int8_t *out, uint32_t capacity)
{
    uint32_t const bytes = dhn_feature_bytes(self, point);
    if (bytes == 0u || bytes > capacity) {
        return DHN_ERR_ARGUMENT;
    }
    const dhn_point_t *const p = &dhn_points(self)[point];
    dhn_pool_t pool;
    memset(&pool, 0, sizeof pool);
    pool.in_h = p->tap_h;
    pool.in_w = p->tap_w;
    pool.c = p->tap_c;
    pool.out_h = (uint16_t)windows(p->tap_h, p->window_h);
    pool.out_w = (uint16_t)windows(p->tap_w, p->window_w);
    pool.kh = pool.stride_h = p->window_h;
    pool.kw = pool.stride_w = p->window_w;
    pool.act_min = INT8_MIN;
    pool.act_max = INT8_MAX;
    dhn_io_t io = {(const int8_t *)self->arena + p->tap, NULL, out, NULL, self->pack};
    dhn_avg_pool_s8__ref(&pool, &io);
    return (int32_t)bytes;
}
