/* Chooses which inferences become samples, builds their records in bounded memory, and sends them in parts. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "sampler.h"

#include <string.h>

#include "bytes.h"
#include "dhn.h"
#include "link.h"
#include "model.h"

enum { CELL_FREE, CELL_OPEN, CELL_RESERVOIR, CELL_READY };
enum { RECORD_HEAD = 28, AT_PROPENSITY = 4, AT_REASON = 16 };
#define ALWAYS 65536u /* probability one in Q16 */

/* -- Lots (Marsaglia 2003, "Xorshift RNGs") */

static uint32_t draw(sampler_t *self)
{
    uint32_t x = self->lots;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    self->lots = x;
    return x;
}

void sampler_stir(sampler_t *self, uint32_t seed)
{
    self->lots ^= seed;
    if (self->lots == 0) /* where xorshift would stay */
        self->lots = 1;
}

/* Uniform in [0, below); the bias of the multiplication is below 2^-16 for the windows that occur. */
static uint32_t draw_below(sampler_t *self, uint32_t below)
{
    return (uint32_t)((uint64_t)draw(self) * below >> 32);
}

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

static bool wanted(const sampler_policy_t *policy, uint16_t point)
{
    return policy->points == 0 || (point < 32 && (policy->points >> point & 1) != 0);
}

/* Largest record under a policy, a multiple of 4. */
static uint32_t record_bytes(const sampler_t *self, const sampler_policy_t *policy)
{
    const dhn_model_t *model = &self->runner->model;
    uint32_t bytes = RECORD_HEAD + 3u * hook_count(self) + 4u * model_segments + output_bytes(self);
    for (uint16_t point = 0; point < dhn_header(model)->point_count; point++)
        if (wanted(policy, point))
            bytes += 2 + dhn_feature_bytes(model, point);
    if (policy->flags & SAMPLER_WITH_INPUT)
        bytes += self->runner->input_bytes;
    return (bytes + 3) & ~3u;
}

static uint32_t cells_for(uint32_t bytes)
{
    uint32_t cells = model_sample_bytes / bytes;
    return bytes > UINT16_MAX ? 0 : cells > APP_MAX_CELLS ? APP_MAX_CELLS : cells;
}

static void divide_memory(sampler_t *self)
{
    for (uint16_t i = 0; i < self->cell_count; i++)
        self->dropped += self->cell[i].state != CELL_FREE;
    memset(self->cell, 0, sizeof self->cell);
    self->cell_bytes = record_bytes(self, &self->policy);
    self->cell_count = (uint16_t)cells_for(self->cell_bytes);
    self->open = -1;
    self->sending = -1;
    self->window_seen = 0;
    self->window_others = 0;
}

void sampler_start(sampler_t *self, const runner_t *runner, uint32_t seed)
{
    memset(self, 0, sizeof *self);
    self->runner = runner;
    self->lots = seed | 1; /* xorshift must not start at zero */
    self->open = -1;
    self->sending = -1;
    if (runner->status == DHN_OK)
        divide_memory(self);
}

bool sampler_configure(sampler_t *self, const sampler_policy_t *policy)
{
    uint32_t cells = cells_for(record_bytes(self, policy));
    if (cells < 2 || policy->reservoir > cells - 2 || (policy->reservoir > 0 && policy->window == 0))
        return false;
    self->policy = *policy;
    self->seen = 0;
    divide_memory(self);
    return true;
}

void sampler_resize(sampler_t *self)
{
    divide_memory(self);
    if (self->cell_count < self->policy.reservoir + 2u)
        self->policy.reservoir = 0;
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
    uint32_t input = self->policy.flags & SAMPLER_WITH_INPUT ? self->runner->input_bytes : 0;
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

bool sampler_open(sampler_t *self, bool lots)
{
    self->open = find_cell(self, CELL_FREE);
    self->used = features_at(self);
    if (self->open >= 0) {
        self->cell[self->open].state = CELL_OPEN;
        if (self->policy.flags & SAMPLER_WITH_INPUT)
            copy_input(self, memory_of(self, self->open) + self->used - self->runner->input_bytes);
    }
    self->full_run = lots && draw(self) >> 16 < self->policy.full_share;
    return self->full_run;
}

void sampler_point(void *context, uint16_t point)
{
    sampler_t *self = context;
    if (self->open < 0 || !wanted(&self->policy, point))
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

static void fill_record(const sampler_t *self, uint32_t tag, uint16_t point, uint8_t reason, bool full_run,
                        uint32_t propensity)
{
    const dhn_trace_t *trace = &self->runner->trace;
    const dhn_header_t *bundle = dhn_bundle_header(&self->runner->model);
    uint32_t bytes;
    const int8_t *output = dhn_output(&self->runner->model, 0, &bytes);
    bool input = self->policy.flags & SAMPLER_WITH_INPUT;
    writer_t out = {memory_of(self, self->open), 0, self->cell_bytes, true};
    put_u32(&out, tag);
    put_u32(&out, propensity);
    put_u32(&out, bundle == NULL ? 0 : bundle->bundle_version);
    put_u16(&out, point);
    put_u16(&out, (uint16_t)trace->exit_hook);
    put_u8(&out, reason);
    put_u8(&out, (uint8_t)(full_run ? 1 : 0));
    put_u8(&out, (uint8_t)hook_count(self));
    put_u8(&out, (uint8_t)model_segments);
    put_u32(&out, bytes);
    put_u32(&out, input ? self->runner->input_bytes : 0);
    put_bytes(&out, trace->decision, hook_count(self));
    for (uint16_t i = 0; i < hook_count(self); i++)
        put_u16(&out, (uint16_t)trace->score[i]);
    for (uint16_t i = 0; i < model_segments; i++)
        put_u32(&out, model_segment_ticks[i]);
    put_bytes(&out, output, bytes);
}

/* -- Policy */

static bool uncertain(const sampler_t *self, uint16_t point)
{
    const dhn_header_t *bundle = dhn_bundle_header(&self->runner->model);
    const dhn_hook_t *hook = dhn_hooks(&self->runner->model);
    const dhn_trace_t *trace = &self->runner->trace;
    if (self->policy.band == 0 || bundle == NULL)
        return false;
    for (uint16_t i = 0; i < bundle->hook_count; i++) {
        if (trace->decision[i] == DHN_NOT_REACHED)
            continue;
        int32_t threshold;
        memcpy(&threshold, (const uint8_t *)bundle + hook[i].thresholds + 4u * point, sizeof threshold);
        int64_t distance = (int64_t)trace->score[i] - threshold; /* a threshold may be INT32_MIN: always */
        if (distance <= self->policy.band && -distance <= self->policy.band)
            return true;
    }
    return false;
}

static uint8_t reasons(sampler_t *self, uint16_t point, bool policies, bool requested)
{
    uint32_t reason = requested ? SAMPLE_REQUESTED : 0;
    if (policies) {
        self->seen++;
        if (self->full_run)
            reason |= SAMPLE_FULL_RUN;
        if (self->policy.every_nth > 0 && self->seen % self->policy.every_nth == 0)
            reason |= SAMPLE_EVERY_NTH;
        if (uncertain(self, point))
            reason |= SAMPLE_UNCERTAIN;
    }
    return (uint8_t)reason;
}

/* Probability that a record like this one is made. Full runs are a design of their own: only their lot makes them. */
static uint32_t propensity_of(const sampler_t *self, uint8_t reason)
{
    if (reason & SAMPLE_REQUESTED)
        return ALWAYS;
    if (reason & SAMPLE_FULL_RUN)
        return self->policy.full_share;
    if (reason & SAMPLE_UNCERTAIN)
        return ALWAYS;
    return self->policy.every_nth == 0 ? ALWAYS : ALWAYS / self->policy.every_nth;
}

static void make_ready(sampler_t *self, int16_t cell)
{
    self->cell[cell].state = CELL_READY;
    self->cell[cell].order = self->next_order++;
    self->kept++;
}

/* A window is over: its reservoir may go. */
static void flush(sampler_t *self)
{
    /* Each of the window's others had the same chance of being here. */
    uint32_t others = self->window_others > self->policy.reservoir ? self->window_others : self->policy.reservoir;
    uint32_t propensity = others == 0 ? ALWAYS : ALWAYS * self->policy.reservoir / others;
    for (uint16_t i = 0; i < self->cell_count; i++) {
        if (self->cell[i].state != CELL_RESERVOIR)
            continue;
        writer_t out = {memory_of(self, (int16_t)i) + AT_PROPENSITY, 0, 4, true};
        put_u32(&out, propensity);
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
    if (index >= self->policy.reservoir) {
        uint32_t place = draw_below(self, index + 1);
        if (place >= self->policy.reservoir)
            return false;
        int16_t old = nth_in_reservoir(self, place);
        if (old >= 0)
            self->cell[old].state = CELL_FREE;
    }
    if (self->open < 0) {
        self->dropped++;
        return false;
    }
    self->cell[self->open].state = CELL_RESERVOIR;
    return true;
}

void sampler_close(sampler_t *self, uint32_t tag, uint16_t point, bool full_run, bool policies, bool requested)
{
    uint8_t reason = reasons(self, point, policies, requested);
    bool reservoir = reason == 0 && policies && self->policy.reservoir > 0;
    if (self->open >= 0) {
        self->cell[self->open].bytes = (uint16_t)self->used;
        if (reason != 0 || reservoir)
            fill_record(self, tag, point, reservoir ? SAMPLE_RESERVOIR : reason, full_run, propensity_of(self, reason));
        if (reason != 0)
            make_ready(self, self->open);
        else if (!reservoir || !offer_to_reservoir(self))
            self->cell[self->open].state = CELL_FREE;
    } else if (reason != 0) {
        self->dropped++;
    } else if (reservoir) {
        (void)offer_to_reservoir(self);
    }
    self->open = -1;
    if (policies && self->policy.reservoir > 0 && ++self->window_seen >= self->policy.window)
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
    uint32_t part = total - self->sent_bytes < APP_SAMPLE_PART - 8 ? total - self->sent_bytes : APP_SAMPLE_PART - 8;
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
