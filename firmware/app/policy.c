/* Decides which inferences are worth a record, and with which probability it does. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include <string.h>

#include "hal.h"
#include "model.h"

/* The budget's bucket holds what comes in one second, but never less than this many records. */
enum { LEAST_BURST = 4, MOST_BUDGET = 1 << 30 };
/* Shares of the host are in units of 2^-16. */
#define FROM_SHARE(share) ((uint32_t)(share) << 8)

/* -- Lots (Marsaglia 2003, "Xorshift RNGs") */

static uint32_t draw(policy_t *self)
{
    uint32_t x = self->lots;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    self->lots = x;
    return x;
}

static bool happens(policy_t *self, uint32_t chance)
{
    return draw(self) >> 8 < chance;
}

/* The bias of the multiplication is below 2^-16 for the windows that occur. */
uint32_t policy_draw_below(policy_t *self, uint32_t below)
{
    return (uint32_t)((uint64_t)draw(self) * below >> 32);
}

void policy_stir(policy_t *self, uint32_t seed)
{
    self->lots ^= seed;
    if (self->lots == 0) /* where xorshift would stay */
        self->lots = 1;
}

void policy_start(policy_t *self, const runner_t *runner, uint32_t seed)
{
    memset(self, 0, sizeof *self);
    self->runner = runner;
    policy_stir(self, seed);
}

bool policy_valid(const sampler_policy_t *rules)
{
    if (rules->budget > MOST_BUDGET)
        return false;
    if (rules->reservoir == 0)
        return true;
    return rules->window > 0 && rules->every_nth == 0 && rules->balance == 0;
}

void policy_set(policy_t *self, const sampler_policy_t *rules, uint32_t record_bytes)
{
    self->rules = *rules;
    self->record_bytes = record_bytes;
    self->capacity = rules->budget > LEAST_BURST * record_bytes ? rules->budget : LEAST_BURST * record_bytes;
    self->level = self->capacity;
    self->filled_at = hal_ticks();
}

/* -- Budget. Whether there is room is asked by lot and before the run, with a probability that depends on the past alone:
 * what is left out must not depend on the input, and every input must have had a chance. */

static void fill(policy_t *self)
{
    uint32_t const hz = hal_tick_hz();
    uint64_t const bytes = (uint64_t)(hal_ticks() - self->filled_at) * self->rules.budget / hz;
    if (bytes == 0)
        return;
    self->filled_at += (uint32_t)(bytes * hz / self->rules.budget); /* the rest of a byte stays to be filled */
    uint32_t const room = self->capacity - self->level;
    self->level += bytes < room ? (uint32_t)bytes : room;
}

/* All while the bucket is full, none when it holds no record: in between it settles where as much goes as comes. The
 * third power keeps some records in the bucket even where one run of a thousand may go: with an empty one the next
 * inputs would have no chance at all, and no weight could make up for them. */
static uint32_t admission(policy_t *self)
{
    if (self->rules.budget == 0)
        return POLICY_ALWAYS;
    fill(self);
    if (self->level < self->record_bytes)
        return 0;
    uint64_t const share =
        (uint64_t)POLICY_ALWAYS * (self->level - self->record_bytes) / (self->capacity - self->record_bytes);
    return (uint32_t)(share * share / POLICY_ALWAYS * share / POLICY_ALWAYS);
}

void policy_charge(policy_t *self, int32_t bytes)
{
    if (self->rules.budget == 0)
        return;
    int32_t const level = (int32_t)self->level - bytes;
    self->level = level < 0 ? 0 : (uint32_t)level > self->capacity ? self->capacity : (uint32_t)level;
}

/* -- Rules */

/* Where every run is a full one, a reservoir has a claim on all of them. */
static uint32_t full_share(const policy_t *self, bool full_anyway)
{
    return full_anyway && self->rules.reservoir > 0 ? 0 : FROM_SHARE(self->rules.full_share);
}

bool policy_draw(policy_t *self, bool full_anyway)
{
    self->admission = admission(self);
    self->admitted = happens(self, self->admission);
    self->full_run = self->admitted && happens(self, full_share(self, full_anyway));
    return self->full_run;
}

static bool uncertain(const policy_t *self, uint16_t point)
{
    const dhn_header_t *bundle = dhn_bundle_header(&self->runner->model);
    const dhn_hook_t *hook = dhn_hooks(&self->runner->model);
    const dhn_trace_t *trace = &self->runner->trace;
    if (self->rules.band == 0 || bundle == NULL)
        return false;
    for (uint16_t i = 0; i < bundle->hook_count; i++) {
        if (trace->decision[i] == DHN_NOT_REACHED || hook[i].action == DHN_ACTION_MASK)
            continue; /* a mask's score is its number of open gates */
        int32_t threshold;
        memcpy(&threshold, (const uint8_t *)bundle + hook[i].thresholds + 4u * point, sizeof threshold);
        int64_t distance = (int64_t)trace->score[i] - threshold; /* a threshold may be INT32_MIN: always */
        if (distance <= self->rules.band && -distance <= self->rules.band)
            return true;
    }
    return false;
}

static uint16_t answer(const policy_t *self)
{
    uint32_t bytes = 0;
    const int8_t *output = dhn_output(&self->runner->model, 0, &bytes);
    uint16_t best = 0;
    for (uint16_t i = 1; i < bytes; i++)
        if (output[i] > output[best])
            best = i;
    return best;
}

static void halve_classes(policy_t *self)
{
    self->classes_seen = 0;
    for (uint16_t i = 0; i < APP_MAX_CLASSES; i++) {
        self->class_seen[i] = (uint16_t)((self->class_seen[i] + 1u) / 2u); /* seen is seen: never back to none */
        self->classes_seen += self->class_seen[i];
    }
}

/* A class of which r of n inferences were seen gets balance * n / (classes * r): the same number of records for each. */
static uint32_t class_chance(policy_t *self, uint16_t label)
{
    if (self->rules.balance == 0)
        return 0;
    uint16_t *const seen = &self->class_seen[(label == POLICY_NO_LABEL ? answer(self) : label) % APP_MAX_CLASSES];
    if (*seen == UINT16_MAX)
        halve_classes(self);
    self->classes = (uint16_t)(self->classes + (*seen == 0));
    (*seen)++;
    self->classes_seen++;
    uint64_t const chance =
        (uint64_t)FROM_SHARE(self->rules.balance) * self->classes_seen / ((uint32_t)self->classes * *seen);
    return chance < POLICY_ALWAYS ? (uint32_t)chance : POLICY_ALWAYS;
}

/* Rules that look at the input keep it for certain; the others by lot. Returns the probability over all of them. */
static uint32_t apply_rules(policy_t *self, verdict_t *verdict)
{
    bool const nth = self->rules.every_nth > 0 && self->seen % self->rules.every_nth == 0;
    uint32_t const nth_chance = self->rules.every_nth > 0 ? POLICY_ALWAYS / self->rules.every_nth : 0;
    uint32_t const balance_chance = class_chance(self, verdict->label);
    bool const balanced = happens(self, balance_chance);
    bool const unsure = uncertain(self, verdict->point);
    bool const drifted = verdict->drifted && (self->rules.flags & SAMPLER_DRIFT) != 0;
    if (!self->admitted)
        return 0;
    verdict->reasons |= (uint8_t)((nth ? SAMPLE_EVERY_NTH : 0) | (balanced ? SAMPLE_BALANCED : 0) |
                                  (unsure ? SAMPLE_UNCERTAIN : 0) | (drifted ? SAMPLE_DRIFT : 0));
    return unsure || drifted ? POLICY_ALWAYS : policy_either(nth_chance, balance_chance);
}

/* Full runs are a design of their own, which only their lot makes, and all other records are another one. Unless no hook
 * can act: then both are full runs of the same network. */
static uint32_t chance_of(const policy_t *self, bool full_anyway, uint32_t by_rules)
{
    uint32_t const full = full_share(self, full_anyway);
    uint32_t chance;
    if (full_anyway)
        chance = policy_either(full, by_rules);
    else if (self->full_run)
        chance = full;
    else
        chance = policy_both(POLICY_ALWAYS - full, by_rules);
    return policy_both(self->admission, chance);
}

void policy_judge(policy_t *self, verdict_t *verdict)
{
    verdict->reasons = 0;
    verdict->chance = POLICY_ALWAYS;
    if (verdict->policies) {
        self->seen++;
        self->refused += !self->admitted;
        verdict->reasons = self->full_run ? SAMPLE_FULL_RUN : 0;
        uint32_t const by_rules = apply_rules(self, verdict);
        verdict->chance = chance_of(self, verdict->full_anyway, verdict->reasons != 0 ? by_rules : POLICY_ALWAYS);
    }
    if (verdict->requested) {
        verdict->reasons |= SAMPLE_REQUESTED;
        verdict->chance = POLICY_ALWAYS;
    }
}
