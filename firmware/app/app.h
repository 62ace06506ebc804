/* The device application: its parts, its requests, and the one function that a user supplies. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef APP_H
#define APP_H

#include <stdbool.h>
#include <stdint.h>

#include "link.h"
#include "monitor.h"
#include "perception.h"
#include "runner.h"
#include "sampler.h"
#include "slots.h"

typedef struct {
    runner_t runner;
    sampler_t sampler;
    perception_t perception;
    monitor_t monitor;
    slots_t slots;
    link_t link;
    uint16_t point;   /* operating point of runs that do not name one */
    bool automatic;   /* such runs follow the bundle's policy; `point` is for surroundings of which it says nothing */
    bool watching;    /* the run under way is one that the monitor counts */
    uint32_t boot_id; /* differs from start to start */
    bool reset_asked;
    uint32_t baud;       /* of now */
    uint32_t baud_asked; /* 0: none */
    uint32_t baud_since; /* ticks; while `baud_trial` */
    bool baud_trial;
} app_t;

/* Starts platform and application, once; arguments as hal_init takes them. Then app_step is to be called again and again,
 * by a `main` (port/common/main.c), or by whatever calls a platform's programs (`loop` of a sketch). One step takes what
 * the link has brought and answers it, inferences included, sends a sample, or waits as hal_idle does. */
void app_start(int argc, char **argv);
void app_step(void);

/* Handles one request (a link_handler_t); context is the app_t. */
int8_t app_request(void *context, uint8_t type, reader_t *in, writer_t *out);

/* As an operating point: the one that the bundle's policy chooses in the present environment. */
enum { POINT_AUTOMATIC = 0xFFFE };

/* How one inference is to be done, and how it was. */
typedef struct {
    uint32_t tag;   /* the host's name for the input */
    uint16_t mode;  /* dhn_mode_t; afterwards that which it ran in */
    uint16_t point; /* operating point, or POINT_AUTOMATIC; afterwards that at which it ran */
    uint16_t label; /* true class, POLICY_NO_LABEL: not known */
    uint8_t flags;  /* RUN_* */
} app_run_t;

/* One inference on the input in place, with its sample. */
dhn_status_t app_infer(app_t *self, app_run_t *how);

/* RAM that all of the application's state takes, in bytes: a constant of the build. Beside it there are the arena, the
 * samples' memory and the ticks, which belong to the model, and the stack. */
uint32_t app_state_bytes(void);

/* Samples to the host, as long as there are any. */
void app_drain(app_t *self);

/* Fills one network input (canonical int8, `bytes` of them, input `index`) from the sensor. Returns 0, or a negative
 * number when there is nothing to read. The application's author defines it; without it STREAM reports an error. Called
 * from the main loop, may take as long as it likes. */
int app_read_input(uint16_t index, int8_t *in, uint32_t bytes);

/* Fills what the application knows of its surroundings: battery in percent, temperature in degrees Celsius, the time that
 * is available in percent of a full run's (127: as much as it takes), and five channels that mean what the author likes
 * (docs/perception.md). Called before each inference; a channel that it leaves alone keeps its value. Without it the
 * host sets them, or they stay at 100, 25, 127 and 0. */
enum { APP_CHANNELS = 8 };
void app_environment(int8_t channels[APP_CHANNELS]);

/* The core's clock in percent of its nominal speed. Without it: 100. */
int8_t app_clock_percent(void);

#endif
