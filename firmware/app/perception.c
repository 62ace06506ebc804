/* What is known about the surroundings of an inference, as the int8 channels that hooks read and samples carry. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "perception.h"

#include <string.h>

#include "app.h"
#include "hal.h"
#include "model.h"

/* Means follow with this weight of the newest run: half of a change is there after five runs. */
enum { NEWEST = 8 };

void __attribute__((weak)) app_environment(int8_t channels[APP_CHANNELS])
{
    (void)channels;
}

int8_t __attribute__((weak)) app_clock_percent(void)
{
    return 100;
}

/* The application's channels where nobody says. */
static const int8_t unknown[ENV_RUNNER] = {
    [ENV_BATTERY] = 100,
    [ENV_TEMPERATURE] = 25,
    [ENV_DEADLINE] = ENV_NO_DEADLINE,
};

static int8_t clipped(uint32_t value)
{
    return (int8_t)(value < INT8_MAX ? value : INT8_MAX);
}

/* `part` in percent of `whole`, 0 when that is not known. */
static int8_t percent(uint32_t part, uint32_t whole)
{
    return whole == 0 ? 0
                      : clipped((uint32_t)((uint64_t)part * 100 / whole < UINT32_MAX ? (uint64_t)part * 100 / whole
                                                                                     : UINT32_MAX));
}

static uint32_t follow(uint32_t mean, uint32_t newest)
{
    return (uint32_t)((int64_t)mean + ((int64_t)newest - (int64_t)mean) / NEWEST);
}

void perception_start(perception_t *self, const runner_t *runner)
{
    memset(self, 0, sizeof *self);
    self->runner = runner;
    self->full_ticks = model_full_ticks;
    self->full_share = 65536;
    memcpy(self->channel, unknown, sizeof unknown);
    self->channel[ENV_LAST_RUN] = 100; /* as after a full run */
    self->channel[ENV_MEAN_RUN] = 100;
    self->channel[ENV_FULL_RUNS] = 100;
    self->channel[ENV_ARENA] =
        percent(runner->status == DHN_OK ? dhn_header(&runner->model)->arena_bytes : 0, model_ram_bytes);
}

void perception_hold(perception_t *self, uint8_t mask, const int8_t *values)
{
    for (uint8_t i = 0; i < ENV_RUNNER; i++)
        if (self->held >> i & 1)
            self->channel[i] = unknown[i];
    self->held = mask;
    memcpy(self->held_value, values, sizeof self->held_value);
}

void perception_update(perception_t *self)
{
    app_environment(self->channel);
    for (uint8_t i = 0; i < ENV_RUNNER; i++)
        if (self->held >> i & 1)
            self->channel[i] = self->held_value[i];
    self->channel[ENV_CLOCK] = app_clock_percent();
    int8_t *const shown = dhn_environment(&self->runner->model);
    if (shown != NULL)
        memcpy(shown, self->channel, sizeof self->channel);
}

static uint32_t first_segments(void)
{
    return model_segment_ticks[0] + (model_segments > 1 ? model_segment_ticks[1] : 0);
}

void perception_learn(perception_t *self, bool full)
{
    uint32_t const ticks = self->runner->ticks;
    if (full && model_full_ticks == 0)
        self->full_ticks = self->full_ticks == 0 ? ticks : follow(self->full_ticks, ticks);
    self->mean_ticks = self->mean_ticks == 0 ? ticks : follow(self->mean_ticks, ticks);
    self->full_share = follow(self->full_share, full ? 65536 : 0);
    self->channel[ENV_LAST_RUN] = percent(ticks, self->full_ticks);
    self->channel[ENV_MEAN_RUN] = percent(self->mean_ticks, self->full_ticks);
    self->channel[ENV_FIRST_SEGMENTS] = percent(first_segments(), self->full_ticks);
    if (self->runner->stack_bytes > 0)
        self->channel[ENV_STACK] = clipped(self->runner->stack_bytes / ENV_STACK_UNIT);
    self->channel[ENV_FULL_RUNS] = percent(self->full_share, 65536);
    self->channel[ENV_FULL_TIME] = clipped((uint32_t)((uint64_t)self->full_ticks * 1000 / hal_tick_hz()));
}
