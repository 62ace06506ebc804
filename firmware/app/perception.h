/* What is known about the surroundings of an inference, as the int8 channels that hooks read and samples carry. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PERCEPTION_H
#define PERCEPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "dhn.h"
#include "runner.h"

/* Numbers of the channels (docs/perception.md). The application supplies the first eight, the runner the others. */
enum {
    ENV_BATTERY = 0,
    ENV_TEMPERATURE = 1,
    ENV_DEADLINE = 2,
    ENV_RUNNER = 8, /* the first of the runner's */
    ENV_LAST_RUN = 8,
    ENV_MEAN_RUN = 9,
    ENV_FIRST_SEGMENTS = 10,
    ENV_ARENA = 11,
    ENV_STACK = 12,
    ENV_CLOCK = 13,
    ENV_FULL_RUNS = 14,
    ENV_FULL_TIME = 15
};
enum { ENV_NO_DEADLINE = 127, ENV_STACK_UNIT = 64 };

typedef struct {
    const runner_t *runner;
    int8_t channel[DHN_ENVIRONMENT];
    uint8_t held; /* one bit for each of the application's channels that the host has set */
    int8_t held_value[ENV_RUNNER];
    uint32_t full_ticks; /* of a full run: predicted, or the mean of those measured; 0: not known yet */
    uint32_t mean_ticks; /* of runs */
    uint32_t full_share; /* of runs that left nothing out, in units of 2^-16 */
} perception_t;

void perception_start(perception_t *self, const runner_t *runner);

/* The host sets the application's channels whose bit is in `mask`, and gives all others back to the application. */
void perception_hold(perception_t *self, uint8_t mask, const int8_t *values);

/* Before a run: asks the application, and shows the channels to the hooks. */
void perception_update(perception_t *self);

/* After a run: `full` when it left nothing out. What it took is seen by the next one. */
void perception_learn(perception_t *self, bool full);

#endif
