/* Builds the records of chosen inferences in bounded memory and sends them in parts. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "sampler.h"

#include <string.h>

#include "bytes.h"
#include "dhn.h"
#include "link.h"
#include "model.h"

enum { CELL_FREE, CELL_OPEN, CELL_RESERVOIR, CELL_READY };
enum { RECORD_HEAD = 28 + DHN_ENVIRONMENT, AT_PROPENSITY = 4 };
/* Of a part's frame, beside its bytes: number, size and offset; type, flags, sequence number and CRC; zeros and COBS. */
enum { PART_HEAD = 8, FRAME_EXTRA = 8 + 4 };

/* -- Memory */

static uint8_t *memory_of(const sampler_t *self, int16_t cell)
{
    return model_sample_memory + (uint32_t)cell * self->cell_bytes;
}

static uint16_t hook_count(const sampler_t *self)
{
    const dhn_header_t *bundle = dhn_bundle_header(&self->runner->model);
    return bundle == NULL ? 0 : bundle->hook_count;
}

static uint32_t output_bytes(const sampler_t *self)
{
    uint32_t bytes = 0;
    return dhn_output(&self->runner->model, 0, &bytes) == NULL ? 0 : bytes;
}

static bool wanted(const sampler_policy_t *rules, uint16_t point)
{
    return rules->points == 0 || (point < 32 && (rules->points >> point & 1) != 0);
}

uint32_t sampler_line_bytes(uint32_t record)
{
    enum { PART = APP_SAMPLE_PART - PART_HEAD };
    return record + (record + PART - 1) / PART * (PART_HEAD + FRAME_EXTRA);
}

/* Largest record under these rules, a multiple of 4. */
static uint32_t record_bytes(const sampler_t *self, const sampler_policy_t *rules)
{
    const dhn_model_t *model = &self->runner->model;
    uint32_t bytes = RECORD_HEAD + 3u * hook_count(self) + 4u * model_segments + output_bytes(self);
    for (uint16_t point = 0; point < dhn_header(model)->point_count; point++)
        if (wanted(rules, point))
            bytes += 2 + dhn_feature_bytes(model, point);
    if (rules->flags & SAMPLER_WITH_INPUT)
        bytes += self->runner->input_bytes;
    return (bytes + 3) & ~3u;
}

static uint32_t cells_for(uint32_t bytes)
{
    uint32_t cells = model_sample_bytes / bytes;
    return bytes > UINT16_MAX ? 0 : cells > APP_MAX_CELLS ? APP_MAX_CELLS : cells;
}

static void divide_memory(sampler_t *self, const sampler_policy_t *rules)
{
    for (uint16_t i = 0; i < self->cell_count; i++)
        self->dropped += self->cell[i].state != CELL_FREE;
    memset(self->cell, 0, sizeof self->cell);
    self->cell_bytes = record_bytes(self, rules);
    self->cell_count = (uint16_t)cells_for(self->cell_bytes);
    self->open = -1;
    self->sending = -1;
    self->window_seen = 0;
    self->window_others = 0;
    policy_set(&self->policy, rules, sampler_line_bytes(self->cell_bytes));
}

void sampler_start(sampler_t *self, const runner_t *runner, const int8_t *environment, uint32_t seed)
{
    static const sampler_policy_t nothing;
    memset(self, 0, sizeof *self);
    self->runner = runner;
    self->environment = environment;
    policy_start(&self->policy, runner, seed);
    self->open = -1;
    self->sending = -1;
    if (runner->status == DHN_OK)
        divide_memory(self, &nothing);
}

bool sampler_configure(sampler_t *self, const sampler_policy_t *rules)
{
    uint32_t cells = cells_for(record_bytes(self, rules));
    if (!policy_valid(rules) || cells < 2 || rules->reservoir > cells - 2)
        return false;
    self->policy.seen = 0;
    divide_memory(self, rules);
    return true;
}

void sampler_resize(sampler_t *self)
{
    sampler_policy_t rules = self->policy.rules;
    if (cells_for(record_bytes(self, &rules)) < rules.reservoir + 2u)
        rules.reservoir = 0;
    divide_memory(self, &rules);
}

static int16_t find_cell(const sampler_t *self, uint8_t state)
{
    for (uint16_t i = 0; i < self->cell_count; i++)
        if (self->cell[i].state == state)
            return (int16_t)i;
    return -1;
}

/* -- Records. Layout: docs/link-protocol.md, SAMPLE. What is fixed in size comes first, so that features can be appended
 * while the network runs. */

static uint32_t features_at(const sampler_t *self)
{
    uint32_t input = self->policy.rules.flags & SAMPLER_WITH_INPUT ? self->runner->input_bytes : 0;
    return RECORD_HEAD + 3u * hook_count(self) + 4u * model_segments + output_bytes(self) + input;
}

static void copy_input(const sampler_t *self, uint8_t *to)
{
    uint32_t bytes;
    const int8_t *from;
    for (uint16_t i = 0; (from = dhn_input(&self->runner->model, i, &bytes)) != NULL; i++) {
        memcpy(to, from, bytes);
        to += bytes;
    }
}

bool sampler_open(sampler_t *self, bool rules, bool requested, bool full_anyway)
{
    bool const full_run = rules && policy_draw(&self->policy, full_anyway);
    bool const possible = requested || (rules && self->policy.admitted);
    self->open = possible ? find_cell(self, CELL_FREE) : -1;
    self->used = features_at(self);
    if (self->open >= 0) {
        self->cell[self->open].state = CELL_OPEN;
        if (self->policy.rules.flags & SAMPLER_WITH_INPUT)
            copy_input(self, memory_of(self, self->open) + self->used - self->runner->input_bytes);
    }
    return full_run;
}

void sampler_point(sampler_t *self, uint16_t point)
{
    if (self->open < 0 || !wanted(&self->policy.rules, point))
        return;
    uint8_t *record = memory_of(self, self->open);
    int32_t bytes =
        dhn_feature(&self->runner->model, point, (int8_t *)record + self->used + 2, self->cell_bytes - self->used - 2);
    if (bytes < 0)
        return;
    record[self->used] = (uint8_t)point;
    record[self->used + 1] = (uint8_t)(point >> 8);
    self->used += 2 + (uint32_t)bytes;
}

static void fill_record(const sampler_t *self, uint32_t tag, bool full_run, const verdict_t *verdict)
{
    const dhn_trace_t *trace = &self->runner->trace;
    const dhn_header_t *bundle = dhn_bundle_header(&self->runner->model);
    uint32_t bytes;
    const int8_t *output = dhn_output(&self->runner->model, 0, &bytes);
    bool input = self->policy.rules.flags & SAMPLER_WITH_INPUT;
    writer_t out = {memory_of(self, self->open), 0, self->cell_bytes, true};
    put_u32(&out, tag);
    put_u32(&out, verdict->chance);
    put_u32(&out, bundle == NULL ? 0 : bundle->bundle_version);
    put_u16(&out, verdict->point);
    put_u16(&out, (uint16_t)trace->exit_hook);
    put_u8(&out, verdict->reasons != 0 ? verdict->reasons : SAMPLE_RESERVOIR);
    put_u8(&out, (uint8_t)(full_run ? 1 : 0));
    put_u8(&out, (uint8_t)hook_count(self));
    put_u8(&out, (uint8_t)model_segments);
    put_u32(&out, bytes);
    put_u32(&out, input ? self->runner->input_bytes : 0);
    put_bytes(&out, self->environment, DHN_ENVIRONMENT);
    put_bytes(&out, trace->decision, hook_count(self));
    for (uint16_t i = 0; i < hook_count(self); i++)
        put_u16(&out, (uint16_t)trace->score[i]);
    for (uint16_t i = 0; i < model_segments; i++)
        put_u32(&out, model_segment_ticks[i]);
    put_bytes(&out, output, bytes);
}

/* -- What becomes of a record */

static void make_ready(sampler_t *self, int16_t cell)
{
    self->cell[cell].state = CELL_READY;
    self->cell[cell].order = self->next_order++;
    self->kept++;
}

/* What a cell's record takes from the budget. */
static int32_t price(const sampler_t *self, int16_t cell)
{
    return (int32_t)sampler_line_bytes(self->cell[cell].bytes);
}

static void multiply_propensity(sampler_t *self, int16_t cell, uint32_t chance)
{
    uint8_t *at = memory_of(self, cell) + AT_PROPENSITY;
    reader_t in = {at, at + 4, true};
    writer_t out = {at, 0, 4, true};
    put_u32(&out, policy_both(get_u32(&in), chance));
}

/* A window is over: its reservoir may go. */
static void flush(sampler_t *self)
{
    /* Each of the window's others had the same chance of being here. */
    uint32_t size = self->policy.rules.reservoir;
    uint32_t others = self->window_others > size ? self->window_others : size;
    uint32_t chance = (uint32_t)((uint64_t)POLICY_ALWAYS * size / others);
    for (uint16_t i = 0; i < self->cell_count; i++) {
        if (self->cell[i].state != CELL_RESERVOIR)
            continue;
        multiply_propensity(self, (int16_t)i, chance);
        make_ready(self, (int16_t)i);
    }
    self->window_seen = 0;
    self->window_others = 0;
}

static int16_t nth_in_reservoir(const sampler_t *self, uint32_t n)
{
    for (uint16_t i = 0; i < self->cell_count; i++)
        if (self->cell[i].state == CELL_RESERVOIR && n-- == 0)
            return (int16_t)i;
    return -1;
}

/* Algorithm R (Vitter 1985): the i-th of a window stays with probability R / i. True: the open cell was taken. */
static bool offer_to_reservoir(sampler_t *self)
{
    uint32_t index = self->window_others++;
    if (index >= self->policy.rules.reservoir) {
        uint32_t place = policy_draw_below(&self->policy, index + 1);
        if (place >= self->policy.rules.reservoir)
            return false;
        int16_t old = nth_in_reservoir(self, place);
        if (old >= 0) {
            policy_charge(&self->policy, -price(self, old));
            self->cell[old].state = CELL_FREE;
        }
    }
    if (self->open < 0) {
        self->dropped++;
        return false;
    }
    self->cell[self->open].state = CELL_RESERVOIR;
    policy_charge(&self->policy, price(self, self->open));
    return true;
}

static bool reservoir_wants(const sampler_t *self, const verdict_t *verdict)
{
    return verdict->reasons == 0 && verdict->policies && self->policy.admitted && self->policy.rules.reservoir > 0;
}

/* The open cell's record is kept, offered to the reservoir, or given up. */
static void settle(sampler_t *self, const verdict_t *verdict)
{
    if (verdict->reasons == 0) {
        if (!reservoir_wants(self, verdict) || !offer_to_reservoir(self))
            self->cell[self->open].state = CELL_FREE;
        return;
    }
    make_ready(self, self->open);
    if (!verdict->requested)
        policy_charge(&self->policy, price(self, self->open));
}

void sampler_close(sampler_t *self, uint32_t tag, bool full_run, verdict_t *verdict)
{
    policy_judge(&self->policy, verdict);
    bool const reservoir = reservoir_wants(self, verdict);
    if (self->open >= 0) {
        self->cell[self->open].bytes = (uint16_t)self->used;
        if (verdict->reasons != 0 || reservoir)
            fill_record(self, tag, full_run, verdict);
        settle(self, verdict);
    } else if (verdict->reasons != 0) {
        self->dropped++;
    } else if (reservoir) {
        (void)offer_to_reservoir(self);
    }
    self->open = -1;
    if (verdict->policies && self->policy.rules.reservoir > 0 && ++self->window_seen >= self->policy.rules.window)
        flush(self);
}

bool sampler_has_room(const sampler_t *self)
{
    return find_cell(self, CELL_FREE) >= 0;
}

/* -- Sending */

static int16_t oldest_ready(const sampler_t *self)
{
    int16_t oldest = -1;
    for (uint16_t i = 0; i < self->cell_count; i++)
        if (self->cell[i].state == CELL_READY &&
            (oldest < 0 || (uint8_t)(self->next_order - self->cell[i].order) >
                               (uint8_t)(self->next_order - self->cell[oldest].order)))
            oldest = (int16_t)i;
    return oldest;
}

bool sampler_send(sampler_t *self, frame_buffer_t *buffer)
{
    if (self->sending < 0) {
        self->sending = oldest_ready(self);
        self->sent_bytes = 0;
    }
    if (self->sending < 0)
        return false;
    uint32_t total = self->cell[self->sending].bytes;
    uint32_t part =
        total - self->sent_bytes < APP_SAMPLE_PART - PART_HEAD ? total - self->sent_bytes : APP_SAMPLE_PART - PART_HEAD;
    writer_t out = {buffer->message + FRAME_HEAD, 0, APP_MTU, true};
    put_u32(&out, self->number);
    put_u16(&out, (uint16_t)total);
    put_u16(&out, (uint16_t)self->sent_bytes);
    put_bytes(&out, memory_of(self, self->sending) + self->sent_bytes, part);
    frame_send(buffer->message, LINK_SAMPLE, 0, (uint16_t)self->number, out.count);
    self->sent_bytes += part;
    if (self->sent_bytes == total) {
        self->cell[self->sending].state = CELL_FREE;
        self->sending = -1;
        self->number++;
    }
    return true;
}
