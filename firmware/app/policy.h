/* Decides which inferences are worth a record, and with which probability it does. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "app_config.h"
#include "runner.h"

/* Why a record was kept; bits. */
enum {
    SAMPLE_FULL_RUN = 1,
    SAMPLE_EVERY_NTH = 2,
    SAMPLE_UNCERTAIN = 4,
    SAMPLE_RESERVOIR = 8,
    SAMPLE_REQUESTED = 16,
    SAMPLE_DRIFT = 32,
    SAMPLE_BALANCED = 64
};
enum { SAMPLER_WITH_INPUT = 1, SAMPLER_DRIFT = 2 };

/* Probabilities are in units of 2^-24: fine enough for products of small ones. */
#define POLICY_ALWAYS (1u << 24)
enum { POLICY_NO_LABEL = 0xFFFF };

/* All zero: nothing is kept but what the host requests. The rules combine, but a reservoir with neither every_nth nor
 * balance: each of the three would have a claim on the same inferences, and nobody could tell the probability. */
typedef struct {
    uint32_t every_nth;  /* 0: off */
    uint32_t window;     /* inferences per reservoir */
    uint16_t reservoir;  /* of each window's inferences that nothing else kept, this many; 0: off */
    uint16_t band;       /* keep when a score lies within this of its threshold; 0: off */
    uint16_t full_share; /* of 65,536 inferences, this many run in full (shadow) and are kept; 0: off */
    uint16_t flags;
    uint32_t points;  /* hook points whose features records hold, one bit each; 0: all */
    uint32_t budget;  /* bytes per second on the line for what these rules keep; 0: no limit */
    uint16_t balance; /* of 65,536 inferences, keep about this many, the same number of each class; 0: off */
} sampler_policy_t;

/* What is known of an inference once it is over. */
typedef struct {
    uint16_t point;   /* operating point */
    uint16_t label;   /* true class, POLICY_NO_LABEL: not known */
    bool full_anyway; /* no hook could act, or was let, without a lot's doing */
    bool drifted;     /* a feature lay outside of what calibration saw */
    bool policies;    /* these rules apply at all */
    bool requested;   /* the host wants a record whatever the rules say */
    uint8_t reasons;  /* answer: why to keep it, 0: not (but a reservoir may) */
    uint32_t chance; /* answer: probability of a record for these reasons; of a place in a reservoir's draw otherwise */
} verdict_t;

typedef struct {
    const runner_t *runner;
    sampler_policy_t rules;
    uint32_t lots; /* xorshift32 state */
    uint32_t seen; /* inferences judged */
    /* the inference under way, drawn before it began */
    uint32_t admission; /* probability with which the budget admits it */
    bool admitted, full_run;
    /* budget: a bucket of bytes that fills with time */
    uint32_t level, capacity, record_bytes;
    uint32_t filled_at; /* ticks */
    uint32_t refused;   /* inferences that the budget did not admit */
    /* classes, by their number modulo APP_MAX_CLASSES; halved together when one would overflow */
    uint16_t class_seen[APP_MAX_CLASSES];
    uint32_t classes_seen;
    uint16_t classes; /* of which at least one was seen */
} policy_t;

void policy_start(policy_t *self, const runner_t *runner, uint32_t seed);

/* Mixes something that nobody can foresee into the lots: emulated boards start the same each time. */
void policy_stir(policy_t *self, uint32_t seed);

/* Whether such rules can be followed. */
bool policy_valid(const sampler_policy_t *rules);

/* Takes rules, or a new size of the largest record; the budget's bucket starts full. */
void policy_set(policy_t *self, const sampler_policy_t *rules, uint32_t record_bytes);

/* Before an inference under the rules: draws whether the budget admits it, and whether it shall run in full
 * (`full_anyway`: it will, whatever the lot says). */
bool policy_draw(policy_t *self, bool full_anyway);

/* After it: fills the verdict's answers. */
void policy_judge(policy_t *self, verdict_t *verdict);

/* A record of so many bytes was made, or (negative) given up. */
void policy_charge(policy_t *self, int32_t bytes);

/* Uniform in [0, below). */
uint32_t policy_draw_below(policy_t *self, uint32_t below);

static inline uint32_t policy_both(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a * b + POLICY_ALWAYS / 2) / POLICY_ALWAYS);
}

static inline uint32_t policy_either(uint32_t a, uint32_t b)
{
    return POLICY_ALWAYS - policy_both(POLICY_ALWAYS - a, POLICY_ALWAYS - b);
}

#endif
