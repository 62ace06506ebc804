/* Builds the records of chosen inferences in bounded memory and sends them in parts. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "app_config.h"
#include "frame.h"
#include "policy.h"
#include "runner.h"

typedef struct {
    uint16_t bytes;
    uint8_t state;
    uint8_t order; /* among the ready ones: sent oldest first (differences of uint8_t, at most 255 cells) */
} sampler_cell_t;

typedef struct {
    const runner_t *runner;
    const int8_t *environment;
    policy_t policy;
    uint32_t cell_bytes;
    uint16_t cell_count;
    uint8_t next_order;
    sampler_cell_t cell[APP_MAX_CELLS];
    /* the inference under way */
    int16_t open; /* its cell, -1: no room */
    uint32_t used;
    /* reservoir */
    uint32_t window_seen, window_others;
    /* the sample on its way out */
    int16_t sending;
    uint32_t sent_bytes;
    /* counters */
    uint32_t kept, dropped, number;
} sampler_t;

/* `environment`: the channels that records carry. */
void sampler_start(sampler_t *self, const runner_t *runner, const int8_t *environment, uint32_t seed);

/* Takes rules; samples that wait are discarded and counted as dropped. False: rules that nobody can follow, the memory
 * holds fewer than two records, or the reservoir more than there are; nothing changed. */
bool sampler_configure(sampler_t *self, const sampler_policy_t *rules);

/* Again after hooks were attached or detached: records change their size. Discards like sampler_configure. */
void sampler_resize(sampler_t *self);

/* Before an inference whose input is in place. `rules`: they apply to it; `requested`: the host wants its record;
 * `full_anyway`: no hook will act. True: run it in shadow mode, its lot was drawn. */
bool sampler_open(sampler_t *self, bool rules, bool requested, bool full_anyway);

/* At a hook point of the inference: adds its feature to the record. */
void sampler_point(sampler_t *self, uint16_t point);

/* After the inference, which the host calls `tag`; with what is known of it for the verdict. `full_run`: no hook acted,
 * whoever chose so. */
void sampler_close(sampler_t *self, uint32_t tag, bool full_run, verdict_t *verdict);

/* Bytes on the line of a record of so many bytes: what parts and their frames add. */
uint32_t sampler_line_bytes(uint32_t record);

/* False: the next record would find no place. */
bool sampler_has_room(const sampler_t *self);

/* Sends one part of the oldest ready sample. False: none is ready. */
bool sampler_send(sampler_t *self, frame_buffer_t *buffer);

#endif
