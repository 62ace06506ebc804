/* Compares what the hooks do, and what they see, with what calibration saw; says when to fall back. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor.h"

#include <string.h>

enum { USUAL_WINDOW = 128, USUAL_REARM = 3 };

static void forget_windows(monitor_t *self)
{
    memset(self->row, 0, sizeof self->row);
}

/* A row that says how long a window is; without one it is as usual. */
static void read_window(monitor_t *self)
{
    self->window = USUAL_WINDOW;
    self->rearm = USUAL_REARM;
    for (uint8_t i = 0; i < self->count; i++) {
        const dhn_range_t *range = &self->ranges[i];
        if (range->kind != RANGE_WINDOW || range->low < 1 || range->low > UINT16_MAX)
            continue;
        self->window = (uint16_t)range->low;
        self->rearm = (uint8_t)(range->high < 1 ? 1 : range->high > UINT8_MAX ? UINT8_MAX : range->high);
    }
}

void monitor_clear(monitor_t *self)
{
    const dhn_model_t *model = &self->runner->model;
    const dhn_header_t *bundle = self->runner->status == DHN_OK ? dhn_bundle_header(model) : NULL;
    uint16_t count = bundle == NULL ? 0 : bundle->range_count;
    self->count = (uint8_t)(count < APP_MAX_RANGES ? count : APP_MAX_RANGES);
    self->ranges = count == 0 ? NULL : (const void *)((const uint8_t *)bundle + bundle->ranges);
    self->state = count == 0 ? MONITOR_OFF : MONITOR_WATCHES;
    forget_windows(self);
    read_window(self);
}

void monitor_start(monitor_t *self, const runner_t *runner)
{
    memset(self, 0, sizeof *self);
    self->runner = runner;
    monitor_clear(self);
}

void monitor_open(monitor_t *self, uint16_t point)
{
    self->point = point;
    self->drifted = false;
}

static bool applies(const monitor_t *self, const dhn_range_t *range)
{
    return range->operating_point == RANGE_EVERY_POINT || range->operating_point == self->point;
}

static bool outside(const dhn_range_t *range, int32_t value)
{
    return value < range->low || value > range->high;
}

/* -- Features */

typedef struct {
    uint32_t mean, spread; /* in units of 1/256 */
} statistic_t;

/* Sums stay below 2^32: a feature has fewer than 65,536 bytes of at most 255 * 256 each. */
static statistic_t statistic_of(const int8_t *feature, uint32_t bytes)
{
    statistic_t result = {0, 0};
    for (uint32_t i = 0; i < bytes; i++)
        result.mean += (uint32_t)(feature[i] - INT8_MIN);
    result.mean = (uint32_t)((uint64_t)result.mean * 256u / bytes);
    uint32_t distances = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        uint32_t const value = (uint32_t)(feature[i] - INT8_MIN) * 256u;
        distances += value > result.mean ? value - result.mean : result.mean - value;
    }
    result.spread = distances / bytes;
    return result;
}

static bool of_feature(const dhn_range_t *range)
{
    return range->kind >= RANGE_MEAN && range->kind <= RANGE_SAMPLE_SPREAD;
}

static bool any_row_at(const monitor_t *self, uint16_t point)
{
    for (uint8_t i = 0; i < self->count; i++)
        if (of_feature(&self->ranges[i]) && self->ranges[i].index == point && applies(self, &self->ranges[i]))
            return true;
    return false;
}

static void add(monitor_t *self, uint8_t row, uint32_t value)
{
    self->row[row].sum += value;
    self->row[row].count++;
}

void monitor_point(monitor_t *self, uint16_t point, int8_t *work, uint32_t bytes)
{
    if (!any_row_at(self, point))
        return;
    int32_t const length = dhn_feature(&self->runner->model, point, work, bytes);
    if (length <= 0)
        return;
    statistic_t const seen = statistic_of(work, (uint32_t)length);
    for (uint8_t i = 0; i < self->count; i++) {
        const dhn_range_t *range = &self->ranges[i];
        if (!of_feature(range) || range->index != point || !applies(self, range))
            continue;
        bool const mean = range->kind == RANGE_MEAN || range->kind == RANGE_SAMPLE_MEAN;
        uint32_t const value = mean ? seen.mean : seen.spread;
        if (range->kind == RANGE_MEAN || range->kind == RANGE_SPREAD)
            add(self, i, value);
        else
            self->drifted |= outside(range, (int32_t)value);
    }
}

/* -- Hooks */

/* Whether hook `number` acted, or would have if those before it had been allowed to: who is behind an exit is not asked. */
static bool acts(const monitor_t *self, uint16_t number)
{
    const dhn_trace_t *trace = &self->runner->trace;
    const dhn_hook_t *hook = dhn_hooks(&self->runner->model);
    if (number >= trace->hook_count || trace->decision[number] != DHN_ACTED)
        return false;
    for (uint16_t i = 0; i < number; i++)
        if (trace->decision[i] == DHN_ACTED &&
            (hook[i].action == DHN_ACTION_EXIT || hook[i].action == DHN_ACTION_REUSE))
            return false;
    return true;
}

/* -- Windows */

static bool all_good(const monitor_t *self)
{
    for (uint8_t i = 0; i < self->count; i++) {
        const dhn_range_t *range = &self->ranges[i];
        bool const judged = range->kind >= RANGE_ACT_RATE && range->kind <= RANGE_SPREAD;
        if (judged && applies(self, range) && self->row[i].good < self->rearm)
            return false;
    }
    return true;
}

static int32_t value_of(const monitor_t *self, uint8_t row)
{
    uint64_t const sum = self->row[row].sum;
    return (int32_t)(self->ranges[row].kind == RANGE_ACT_RATE ? sum * 65536u / self->window : sum / self->window);
}

static void fall(monitor_t *self, uint8_t row, int32_t value)
{
    if (self->state != MONITOR_FALLEN)
        self->falls++;
    forget_windows(self);
    self->state = MONITOR_FALLEN;
    self->worst = row;
    self->worst_value = value;
}

/* A row's window is over. False: it left its range, and all windows begin afresh. */
static bool judge(monitor_t *self, uint8_t row)
{
    int32_t const value = value_of(self, row);
    self->windows++;
    if (outside(&self->ranges[row], value)) {
        fall(self, row, value);
        return false;
    }
    self->row[row].sum = 0;
    self->row[row].count = 0;
    self->row[row].good = (uint8_t)(self->row[row].good + (self->row[row].good < UINT8_MAX));
    return true;
}

void monitor_close(monitor_t *self)
{
    if (self->state == MONITOR_OFF)
        return;
    self->held += self->state == MONITOR_FALLEN;
    for (uint8_t i = 0; i < self->count; i++)
        if (self->ranges[i].kind == RANGE_ACT_RATE && applies(self, &self->ranges[i]))
            add(self, i, acts(self, self->ranges[i].index));
    for (uint8_t i = 0; i < self->count; i++)
        if (self->row[i].count >= self->window && !judge(self, i))
            return;
    if (self->state == MONITOR_FALLEN && all_good(self))
        self->state = MONITOR_WATCHES;
}
