/* Chooses which inferences become samples, builds their records in bounded memory, and sends them in parts. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "app_config.h"
#include "frame.h"
#include "runner.h"

/* Why a record was kept; bits. */
enum { SAMPLE_FULL_RUN = 1, SAMPLE_EVERY_NTH = 2, SAMPLE_UNCERTAIN = 4, SAMPLE_RESERVOIR = 8, SAMPLE_REQUESTED = 16 };
enum { SAMPLER_WITH_INPUT = 1 };

/* All zero: nothing is kept but what the host requests. The policies combine. */
typedef struct {
    uint32_t every_nth;  /* 0: off */
    uint32_t window;     /* inferences per reservoir */
    uint16_t reservoir;  /* of each window's inferences that nothing else kept, this many; 0: off */
    uint16_t band;       /* keep when a score lies within this of its threshold; 0: off */
    uint16_t full_share; /* of 65,536 inferences, this many run in full (shadow) and are kept; 0: off */
    uint16_t flags;
    uint32_t points; /* hook points whose features records hold, one bit each; 0: all */
} sampler_policy_t;

typedef struct {
    uint16_t bytes;
    uint8_t state;
    uint8_t order; /* among the ready ones: sent oldest first (differences of uint8_t, at most 255 cells) */
} sampler_cell_t;

typedef struct {
    const runner_t *runner;
    sampler_policy_t policy;
    uint32_t lots; /* xorshift32 state */
    uint32_t cell_bytes;
    uint16_t cell_count;
    uint8_t next_order;
    sampler_cell_t cell[APP_MAX_CELLS];
    /* the inference under way */
    int16_t open; /* its cell, -1: no room */
    uint32_t used, feature_count;
    bool full_run;
    /* reservoir */
    uint32_t window_seen, window_others;
    /* the sample on its way out */
    int16_t sending;
    uint32_t sent_bytes;
    /* counters */
    uint32_t seen, kept, dropped, number;
} sampler_t;

void sampler_start(sampler_t *self, const runner_t *runner, uint32_t seed);

/* Mixes something that nobody can foresee into the lots: emulated boards start the same each time. */
void sampler_stir(sampler_t *self, uint32_t seed);

/* Takes a policy; samples that wait are discarded and counted as dropped. False: the memory holds fewer than two records,
 * or the reservoir more than there are; nothing changed. */
bool sampler_configure(sampler_t *self, const sampler_policy_t *policy);

/* Again after hooks were attached or detached: records change their size. Discards like sampler_configure. */
void sampler_resize(sampler_t *self);

/* Before an inference whose input is in place. True: run it in shadow mode, its lot was drawn. */
bool sampler_open(sampler_t *self, bool lots);

/* The runner's point function; context is the sampler. */
void sampler_point(void *self, uint16_t point);

/* After the inference. `policies` false: only `requested` counts. `full_run`: no hook acted, whoever chose so. */
void sampler_close(sampler_t *self, uint32_t tag, uint16_t point, bool full_run, bool policies, bool requested);

/* False: the next record would find no place. */
bool sampler_has_room(const sampler_t *self);

/* Sends one part of the oldest ready sample. False: none is ready. */
bool sampler_send(sampler_t *self, frame_buffer_t *buffer);

#endif
