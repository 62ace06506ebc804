/* Compares what the hooks do, and what they see, with what calibration saw; says when to fall back. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MONITOR_H
#define MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "app_config.h"
#include "dhn.h"
#include "runner.h"

/* Kinds of rows in the bundle's table of ranges (dhn_range_t). Means and spreads are of a hook point's default feature,
 * its bytes counted from -128, in units of 1/256 of a step. */
enum {
    RANGE_WINDOW = 0,       /* low: inferences per window; high: good windows before hooks may act again */
    RANGE_ACT_RATE = 1,     /* of hook `index` in a window, of 65,536 inferences */
    RANGE_MEAN = 2,         /* of point `index`, averaged over a window */
    RANGE_SPREAD = 3,       /* mean distance from the mean, likewise */
    RANGE_SAMPLE_MEAN = 4,  /* of one inference: outside of it, the drift policy keeps a sample */
    RANGE_SAMPLE_SPREAD = 5 /* likewise */
};
enum { RANGE_EVERY_POINT = 0xFFFF }; /* as an operating point: holds at all of them */

typedef enum {
    MONITOR_OFF = 0, /* the bundle has no ranges, or there is none */
    MONITOR_WATCHES = 1,
    MONITOR_FALLEN = 2 /* hooks must not act: run in shadow */
} monitor_state_t;

typedef struct {
    uint32_t sum;
    uint16_t count; /* inferences of the window so far */
    uint8_t good;   /* windows in a row, up to 255 */
} monitor_row_t;

typedef struct {
    const runner_t *runner;
    const dhn_range_t *ranges; /* of the attached bundle; NULL: none */
    uint8_t count;             /* rows watched: at most APP_MAX_RANGES */
    uint8_t state;             /* monitor_state_t */
    uint8_t worst;             /* row that made it fall */
    uint16_t window;
    uint8_t rearm;
    int32_t worst_value;
    monitor_row_t row[APP_MAX_RANGES];
    /* the inference under way */
    uint16_t point; /* operating point */
    bool drifted;
    /* counters */
    uint32_t falls, held, windows;
} monitor_t;

/* Forgets everything and watches what is attached now. */
void monitor_start(monitor_t *self, const runner_t *runner);

/* The same, keeping the counters: after hooks were attached or detached, or when the host clears a fall. */
void monitor_clear(monitor_t *self);

/* Before an inference that is watched, at this operating point. */
void monitor_open(monitor_t *self, uint16_t point);

/* At a hook point. Borrows `work` for its feature. */
void monitor_point(monitor_t *self, uint16_t point, int8_t *work, uint32_t bytes);

/* After it. */
void monitor_close(monitor_t *self);

#endif
