/* The host's door to the runtime: one call runs a batch in the caller's arena and collects what happened. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "twin_registry.h"

#if defined(_WIN32)
#define TWIN_API __declspec(dllexport)
#else
#define TWIN_API __attribute__((visibility("default")))
#endif

/* Where the bytes of one tensor are copied to after each of the operators `first` to `op` that has run: the last of them
 * completes it, unless it is a variant that was not selected. */
typedef struct {
    uint32_t op;
    uint32_t ref;
    uint32_t bytes;
    uint32_t first;
    int8_t *to; /* (count, bytes) */
} twin_tap_t;

typedef struct {
    const int8_t *input;       /* (count, bytes of all inputs, one after the other) */
    int8_t *output;            /* (count, bytes of all outputs) */
    int16_t *exit_hook;        /* (count) */
    uint8_t *decision;         /* (count, DHN_MAX_HOOKS) */
    int16_t *score;            /* (count, DHN_MAX_HOOKS) */
    int8_t *feature;           /* (count, bytes of all points' features), NULL: not wanted */
    uint8_t *reached;          /* (count, points), only with feature */
    uint8_t *ran;              /* (count, op_count): whether each operator of the main program ran */
    const int8_t *environment; /* (count, DHN_ENVIRONMENT) */
    const twin_tap_t *taps;
    uint32_t tap_count;
    uint32_t count;
    uint32_t op_count;
    uint16_t operating_point;
    uint16_t mode;
} twin_batch_t;

typedef struct {
    dhn_model_t *model;
    const twin_batch_t *batch;
    uint32_t item;
    uint32_t feature_bytes;
    uint32_t last_op;
} watch_t;

static void take_taps(watch_t *w, uint32_t op)
{
    for (uint32_t i = 0; i < w->batch->tap_count; i++) {
        const twin_tap_t *const tap = &w->batch->taps[i];
        if (tap->first <= op && op <= tap->op) {
            memcpy(tap->to + (size_t)w->item * tap->bytes, w->model->arena + tap->ref, tap->bytes);
        }
    }
}

static void on_op(void *context, uint16_t index)
{
    watch_t *const w = context;
    take_taps(w, w->last_op);
    w->last_op = index;
    if (index < w->batch->op_count) {
        w->batch->ran[(size_t)w->item * w->batch->op_count + index] = 1;
    }
}

static void on_point(void *context, uint16_t point)
{
    watch_t *const w = context;
    uint32_t offset = 0;
    for (uint16_t p = 0; p < point; p++) {
        offset += dhn_feature_bytes(w->model, p);
    }
    if (w->batch->feature != NULL) {
        int8_t *const to = w->batch->feature + (size_t)w->item * w->feature_bytes + offset;
        (void)dhn_feature(w->model, point, to, w->feature_bytes - offset);
        w->batch->reached[(size_t)w->item * dhn_header(w->model)->point_count + point] = 1;
    }
}

static uint32_t load_inputs(dhn_model_t *model, const int8_t *from)
{
    uint32_t total = 0;
    for (uint16_t i = 0; i < dhn_header(model)->input_count; i++) {
        uint32_t bytes = 0;
        int8_t *const to = dhn_input(model, i, &bytes);
        memcpy(to, from + total, bytes);
        total += bytes;
    }
    return total;
}

static void load_environment(dhn_model_t *model, const int8_t *from)
{
    int8_t *const to = dhn_environment(model);
    if (to != NULL) {
        memcpy(to, from, DHN_ENVIRONMENT);
    }
}

static uint32_t save_outputs(dhn_model_t *model, int8_t *to)
{
    uint32_t total = 0;
    for (uint16_t i = 0; i < dhn_header(model)->output_count; i++) {
        uint32_t bytes = 0;
        const int8_t *const from = dhn_output(model, i, &bytes);
        memcpy(to + total, from, bytes);
        total += bytes;
    }
    return total;
}

static dhn_status_t run_batch(dhn_model_t *model, const twin_batch_t *batch)
{
    watch_t watch = {model, batch, 0, 0, UINT32_MAX};
    dhn_observer_t const observer = {&watch, on_op, on_point};
    dhn_run_t const how = {batch->operating_point, batch->mode, &observer};
    for (uint16_t p = 0; p < dhn_header(model)->point_count; p++) {
        watch.feature_bytes += dhn_feature_bytes(model, p);
    }
    const int8_t *in = batch->input;
    int8_t *out = batch->output;
    for (watch.item = 0; watch.item < batch->count; watch.item++) {
        dhn_trace_t trace;
        watch.last_op = UINT32_MAX;
        in += load_inputs(model, in);
        load_environment(model, batch->environment + (size_t)watch.item * DHN_ENVIRONMENT);
        dhn_status_t const status = dhn_run(model, &how, &trace);
        if (status != DHN_OK) {
            return status;
        }
        out += save_outputs(model, out);
        batch->exit_hook[watch.item] = trace.exit_hook;
        memcpy(batch->decision + (size_t)watch.item * DHN_MAX_HOOKS, trace.decision, sizeof trace.decision);
        memcpy(batch->score + (size_t)watch.item * DHN_MAX_HOOKS, trace.score, sizeof trace.score);
    }
    return DHN_OK;
}

/* Loads the pack (and the bundle, unless NULL) into `arena` and runs the batch (none if NULL: only the checks). */
TWIN_API int twin_run(const void *pack, uint32_t pack_bytes, const void *bundle, uint32_t bundle_bytes, void *arena,
                      uint32_t arena_bytes, const twin_batch_t *batch)
{
    dhn_model_t model;
    dhn_status_t status = dhn_load(&model, pack, pack_bytes, arena, arena_bytes, twin_registry, twin_registry_count);
    if (status == DHN_OK && bundle != NULL) {
        status = dhn_attach(&model, bundle, bundle_bytes);
    }
    return (status != DHN_OK || batch == NULL) ? (int)status : (int)run_batch(&model, batch);
}

TWIN_API const char *twin_error(int status)
{
    return dhn_error((dhn_status_t)status);
}

TWIN_API uint32_t twin_crc32(const void *data, uint32_t bytes)
{
    return dhn_crc32(0, data, bytes);
}

/* One kernel on raw memory, for tests: operands as in an instruction. Returns 0, or -1 for an unknown id. */
TWIN_API int twin_kernel(uint32_t id, const void *params, const int8_t *in0, const int8_t *in1, int8_t *out,
                         void *scratch, const uint8_t *consts)
{
    dhn_io_t const io = {in0, in1, out, scratch, consts};
    for (size_t i = 0; i < twin_registry_count; i++) {
        if (twin_registry[i].id == id) {
            twin_registry[i].run(params, &io);
            return 0;
        }
    }
    return -1;
}

/* Sizes of the pack's records, in the order of dhn_format.h, so that the host can check that it writes the same. */
TWIN_API uint32_t twin_sizeof(uint32_t which)
{
    static const uint32_t sizes[] = {
        sizeof(dhn_header_t),    sizeof(dhn_io_tensor_t),   sizeof(dhn_instr_t), sizeof(dhn_point_t),
        sizeof(dhn_hook_t),      sizeof(dhn_policy_t),      sizeof(dhn_range_t), sizeof(dhn_conv_t),
        sizeof(dhn_fc_t),        sizeof(dhn_binary_t),      sizeof(dhn_pool_t),  sizeof(dhn_mean_t),
        sizeof(dhn_lut_t),       sizeof(dhn_softmax_t),     sizeof(dhn_copy_t),  sizeof(dhn_fill_t),
        sizeof(dhn_add_table_t), sizeof(dhn_conv_masked_t), DHN_MAX_HOOKS};
    return (which < sizeof sizes / sizeof sizes[0]) ? sizes[which] : 0u;
}

TWIN_API const char *twin_made_for(void)
{
    return twin_interface;
}
