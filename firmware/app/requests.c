/* What each request of the host does. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "app.h"
#include "dhn.h"
#include "hal.h"
#include "model.h"
#include "packbits.h"

enum { POINT_CURRENT = 0xFFFF, MONITOR_CLEAR = 1 };
#define NO_TAG 0xFFFFFFFFu

/* -- Who and how */

static void put_tensors(const app_t *self, writer_t *out)
{
    uint32_t bytes;
    const dhn_header_t *header = dhn_header(&self->runner.model);
    put_u16(out, header->input_count);
    put_u16(out, header->output_count);
    put_u16(out, header->point_count);
    for (uint16_t i = 0; i < header->input_count; i++)
        put_u32(out, dhn_input(&self->runner.model, i, &bytes) == NULL ? 0 : bytes);
    for (uint16_t i = 0; i < header->output_count; i++)
        put_u32(out, dhn_output(&self->runner.model, i, &bytes) == NULL ? 0 : bytes);
    for (uint16_t i = 0; i < header->point_count; i++)
        put_u32(out, dhn_feature_bytes(&self->runner.model, i));
}

static int8_t hello(app_t *self, reader_t *in, writer_t *out)
{
    if (get_left(in) >= 4)
        policy_stir(&self->sampler.policy, get_u32(in));
    bool loaded = self->runner.status == DHN_OK;
    const dhn_header_t *bundle = loaded ? dhn_bundle_header(&self->runner.model) : NULL;
    put_u16(out, LINK_PROTOCOL);
    put_u16(out, APP_MTU);
    put_u32(out, self->boot_id);
    put_u32(out, hal_tick_hz());
    put_u8(out, (uint8_t)self->runner.status);
    put_u8(out, (uint8_t)strlen(model_board_name));
    put_bytes(out, model_board_name, (uint32_t)strlen(model_board_name));
    put_bytes(out, ((const dhn_header_t *)(const void *)model_pack)->hash, SLOT_HASH);
    put_u32(out, model_pack_bytes);
    put_u32(out, model_arena_bytes);
    put_u32(out, ((const dhn_header_t *)(const void *)model_pack)->arena_bytes);
    put_u32(out, model_sample_bytes);
    put_u32(out, slots_capacity());
    put_u32(out, bundle == NULL ? 0 : bundle->bundle_version);
    put_u16(out, bundle == NULL ? 0 : bundle->operating_points);
    put_u16(out, self->point);
    put_u16(out, self->sampler.cell_count);
    put_u16(out, model_ops);
    put_u8(out, self->automatic ? 1 : 0);
    put_u32(out, app_state_bytes());
    if (loaded)
        put_tensors(self, out);
    return DHN_OK;
}

static int8_t counters(const app_t *self, writer_t *out)
{
    const uint32_t values[] = {
        self->link.receiver.good, self->link.receiver.bad,      hal_read_overflow(),  self->link.repeats,
        self->runner.runs,        self->sampler.policy.seen,    self->sampler.kept,   self->sampler.number,
        self->sampler.dropped,    self->slots.corrupt,          self->slots.reverted, hal_ticks(),
        self->runner.stack_bytes, self->sampler.policy.refused, self->monitor.falls,  self->monitor.held,
    };
    for (uint32_t i = 0; i < sizeof values / sizeof *values; i++)
        put_u32(out, values[i]);
    return DHN_OK;
}

static int8_t baud(app_t *self, reader_t *in)
{
    uint32_t asked = get_u32(in);
    if (!in->ok || asked == 0)
        return LINK_ERR_RANGE;
    if (hal_set_baud(self->baud) != 0) /* only asks whether it could */
        return LINK_ERR_CANNOT;
    self->baud_asked = asked;
    return DHN_OK;
}

/* -- Inference */

/* Takes the rest of the payload as input bytes at `offset`. */
static int8_t take_input(app_t *self, uint32_t offset, uint8_t flags, reader_t *in)
{
    uint32_t count = get_left(in);
    const uint8_t *bytes = get_bytes(in, count);
    if (!(flags & INPUT_PACKBITS))
        return runner_input(&self->runner, offset, bytes, count) ? DHN_OK : LINK_ERR_RANGE;
    uint32_t room;
    uint8_t *to = offset <= self->runner.input_have ? runner_input_at(&self->runner, offset, &room) : NULL;
    int32_t unpacked = to == NULL ? -1 : packbits_decode(bytes, count, to, room);
    if (unpacked < 0)
        return LINK_ERR_RANGE;
    if (offset + (uint32_t)unpacked > self->runner.input_have)
        self->runner.input_have = offset + (uint32_t)unpacked;
    return DHN_OK;
}

static int8_t input(app_t *self, reader_t *in)
{
    uint32_t offset = get_u32(in);
    uint8_t flags = get_u8(in);
    if (!in->ok)
        return LINK_ERR_SIZE;
    return take_input(self, offset, flags, in);
}

static void put_trace(const app_t *self, const app_run_t *how, writer_t *out)
{
    const dhn_trace_t *trace = &self->runner.trace;
    uint32_t bytes;
    const int8_t *output = dhn_output(&self->runner.model, 0, &bytes);
    put_u32(out, self->runner.ticks);
    put_u16(out, (uint16_t)trace->exit_hook);
    put_u8(out, (uint8_t)trace->hook_count);
    put_u8(out, (uint8_t)model_segments);
    put_u16(out, how->point);
    put_u8(out, (uint8_t)how->mode);
    put_bytes(out, trace->decision, trace->hook_count);
    for (uint16_t i = 0; i < trace->hook_count; i++)
        put_u16(out, (uint16_t)trace->score[i]);
    for (uint16_t i = 0; i < model_segments; i++)
        put_u32(out, model_segment_ticks[i]);
    if (how->flags & RUN_WANT_OUTPUT)
        put_bytes(out, output, bytes);
}

static bool point_exists(const app_t *self, uint16_t point)
{
    const dhn_header_t *bundle = dhn_bundle_header(&self->runner.model);
    return point == 0 || point == POINT_AUTOMATIC || (bundle != NULL && point < bundle->operating_points);
}

static uint16_t current_point(const app_t *self)
{
    return self->automatic ? (uint16_t)POINT_AUTOMATIC : self->point;
}

static int8_t run(app_t *self, reader_t *in, writer_t *out)
{
    app_run_t how = {.tag = get_u32(in), .label = POLICY_NO_LABEL};
    how.mode = get_u8(in);
    how.flags = get_u8(in);
    how.point = get_u16(in);
    if (how.flags & RUN_HAS_LABEL)
        how.label = get_u16(in);
    if (!in->ok)
        return LINK_ERR_SIZE;
    if (how.point == POINT_CURRENT)
        how.point = current_point(self);
    if (how.mode > DHN_DETACHED || !point_exists(self, how.point))
        return LINK_ERR_RANGE;
    int8_t status = how.flags & RUN_HAS_INPUT ? take_input(self, 0, how.flags, in) : (int8_t)DHN_OK;
    if (status != DHN_OK)
        return status;
    if (self->runner.input_have != self->runner.input_bytes)
        return LINK_ERR_INPUT;
    status = (int8_t)app_infer(self, &how);
    if (status == DHN_OK)
        put_trace(self, &how, out);
    return out->ok ? status : LINK_ERR_SIZE;
}

static int8_t profile(reader_t *in, writer_t *out)
{
    uint16_t first = get_u16(in);
    if (!in->ok || first > model_ops)
        return LINK_ERR_RANGE;
    put_u16(out, model_ops);
    for (uint16_t i = first; i < model_ops && out->capacity - out->count >= 4; i++)
        put_u32(out, model_op_ticks[i]);
    return DHN_OK;
}

static bool read_sensor(app_t *self)
{
    uint32_t bytes;
    int8_t *to;
    for (uint16_t i = 0; (to = dhn_input(&self->runner.model, i, &bytes)) != NULL; i++)
        if (app_read_input(i, to, bytes) < 0)
            return false;
    return true;
}

static int8_t stream(app_t *self, reader_t *in, writer_t *out)
{
    uint32_t count = get_u32(in);
    uint32_t done = 0;
    int8_t status = in->ok ? DHN_OK : LINK_ERR_SIZE;
    while (status == DHN_OK && done < count) {
        if (!read_sensor(self)) {
            status = LINK_ERR_SENSOR;
            break;
        }
        app_run_t how = {NO_TAG, DHN_GATED, current_point(self), POLICY_NO_LABEL, RUN_POLICIES};
        status = (int8_t)app_infer(self, &how);
        done++;
        app_drain(self);
    }
    put_u32(out, done);
    return status;
}

static int8_t set_point(app_t *self, reader_t *in)
{
    uint16_t point = get_u16(in);
    if (!in->ok || !point_exists(self, point))
        return LINK_ERR_RANGE;
    self->automatic = point == POINT_AUTOMATIC;
    if (!self->automatic)
        self->point = point;
    return DHN_OK;
}

/* An empty payload only asks. */
static int8_t environment(app_t *self, reader_t *in, writer_t *out)
{
    if (get_left(in) > 0) {
        uint8_t const mask = get_u8(in);
        const uint8_t *values = get_bytes(in, APP_CHANNELS);
        if (!in->ok)
            return LINK_ERR_SIZE;
        perception_hold(&self->perception, mask, (const int8_t *)values);
    }
    perception_update(&self->perception);
    put_bytes(out, self->perception.channel, DHN_ENVIRONMENT);
    put_u8(out, self->perception.held);
    put_u32(out, self->perception.full_ticks);
    put_u16(out, dhn_choose_point(&self->runner.model, self->point));
    return DHN_OK;
}

/* An empty payload only asks. */
static int8_t monitor(app_t *self, reader_t *in, writer_t *out)
{
    monitor_t *const now = &self->monitor;
    if (get_left(in) > 0) {
        if (get_u8(in) != MONITOR_CLEAR)
            return LINK_ERR_RANGE;
        monitor_clear(now);
    }
    static const dhn_range_t none;
    const dhn_range_t *range = now->state == MONITOR_FALLEN ? &now->ranges[now->worst] : &none;
    put_u8(out, now->state);
    put_u8(out, now->count);
    put_u16(out, now->window);
    put_u32(out, now->windows);
    put_u32(out, now->falls);
    put_u32(out, now->held);
    put_u8(out, range->kind);
    put_u8(out, range->index);
    put_u16(out, range->operating_point);
    put_u32(out, (uint32_t)range->low);
    put_u32(out, (uint32_t)range->high);
    put_u32(out, (uint32_t)now->worst_value);
    return DHN_OK;
}

/* An empty payload only asks. */
static int8_t sampler_policy(app_t *self, reader_t *in, writer_t *out)
{
    int8_t status = DHN_OK;
    if (get_left(in) > 0) {
        sampler_policy_t rules;
        rules.every_nth = get_u32(in);
        rules.window = get_u32(in);
        rules.reservoir = get_u16(in);
        rules.band = get_u16(in);
        rules.full_share = get_u16(in);
        rules.flags = get_u16(in);
        rules.points = get_u32(in);
        rules.budget = get_u32(in);
        rules.balance = get_u16(in);
        if (!in->ok)
            return LINK_ERR_SIZE;
        status = sampler_configure(&self->sampler, &rules) ? DHN_OK : LINK_ERR_RANGE;
    }
    const sampler_policy_t *now = &self->sampler.policy.rules;
    put_u32(out, now->every_nth);
    put_u32(out, now->window);
    put_u16(out, now->reservoir);
    put_u16(out, now->band);
    put_u16(out, now->full_share);
    put_u16(out, now->flags);
    put_u32(out, now->points);
    put_u32(out, now->budget);
    put_u16(out, now->balance);
    put_u16(out, self->sampler.cell_count);
    put_u32(out, self->sampler.policy.record_bytes);
    return status;
}

/* -- Slots */

static int8_t slot_status(const app_t *self, writer_t *out)
{
    put_u8(out, (uint8_t)self->slots.active);
    put_u8(out, (uint8_t)(self->slots.trial ? 1 : 0));
    put_u8(out, (uint8_t)self->slots.target);
    put_u32(out, self->slots.next);
    for (uint8_t slot = 0; slot < SLOT_COUNT; slot++) {
        slot_info_t info;
        put_u8(out, (uint8_t)slots_state(&self->slots, slot, &info));
        put_u32(out, info.version);
        put_u32(out, info.bytes);
        put_u32(out, info.crc32);
    }
    return SLOT_OK;
}

static int8_t slot_begin(app_t *self, reader_t *in, writer_t *out)
{
    slot_info_t info;
    info.version = get_u32(in);
    info.bytes = get_u32(in);
    info.crc32 = get_u32(in);
    const uint8_t *hash = get_bytes(in, SLOT_HASH);
    if (!in->ok)
        return LINK_ERR_SIZE;
    memcpy(info.model_hash, hash, SLOT_HASH);
    uint32_t next = 0;
    slot_status_t status = slots_begin(&self->slots, &info, &next);
    put_u32(out, next);
    return (int8_t)status;
}

static int8_t slot_write(app_t *self, reader_t *in, writer_t *out)
{
    uint32_t offset = get_u32(in);
    uint32_t count = get_left(in);
    const uint8_t *bytes = get_bytes(in, count);
    if (!in->ok)
        return LINK_ERR_SIZE;
    slot_status_t status = slots_write(&self->slots, offset, bytes, count);
    put_u32(out, self->slots.next);
    return (int8_t)status;
}

static int8_t slot_request(app_t *self, uint8_t type, reader_t *in, writer_t *out)
{
    switch (type) {
    case LINK_SLOT_STATUS: return slot_status(self, out);
    case LINK_SLOT_BEGIN: return slot_begin(self, in, out);
    case LINK_SLOT_WRITE: return slot_write(self, in, out);
    case LINK_SLOT_FINISH: return (int8_t)slots_finish(&self->slots);
    case LINK_SLOT_TRIAL: return (int8_t)slots_trial(&self->slots);
    case LINK_SLOT_CONFIRM: return (int8_t)slots_confirm(&self->slots);
    case LINK_SLOT_REVERT: {
        int8_t status = (int8_t)slots_revert(&self->slots);
        if (!point_exists(self, self->point))
            self->point = 0;
        return status;
    }
    default: return LINK_ERR_TYPE;
    }
}

static int8_t model_request(app_t *self, uint8_t type, reader_t *in, writer_t *out)
{
    switch (type) {
    case LINK_INPUT: return input(self, in);
    case LINK_RUN: return run(self, in, out);
    case LINK_PROFILE: return profile(in, out);
    case LINK_STREAM: return stream(self, in, out);
    case LINK_POINT: return set_point(self, in);
    case LINK_SAMPLER: return sampler_policy(self, in, out);
    case LINK_ENVIRONMENT: return environment(self, in, out);
    case LINK_MONITOR: return monitor(self, in, out);
    default: return slot_request(self, type, in, out);
    }
}

int8_t app_request(void *context, uint8_t type, reader_t *in, writer_t *out)
{
    app_t *self = context;
    switch (type) {
    case LINK_HELLO: return hello(self, in, out);
    case LINK_COUNTERS: return counters(self, out);
    case LINK_BAUD: return baud(self, in);
    case LINK_RESET: self->reset_asked = true; return DHN_OK;
    default:
        /* Nothing else makes sense without a model; the load error is the answer. */
        return self->runner.status == DHN_OK ? model_request(self, type, in, out) : (int8_t)self->runner.status;
    }
}
