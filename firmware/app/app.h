/* The device application: its parts, its requests, and the one function that a user supplies. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef APP_H
#define APP_H

#include <stdbool.h>
#include <stdint.h>

#include "link.h"
#include "runner.h"
#include "sampler.h"
#include "slots.h"

typedef struct {
    runner_t runner;
    sampler_t sampler;
    slots_t slots;
    link_t link;
    uint16_t point;   /* operating point of runs that do not name one */
    uint32_t boot_id; /* differs from start to start */
    bool reset_asked;
    uint32_t baud;       /* of now */
    uint32_t baud_asked; /* 0: none */
    uint32_t baud_since; /* ticks; while `baud_trial` */
    bool baud_trial;
} app_t;

/* Handles one request (a link_handler_t); context is the app_t. */
int8_t app_request(void *context, uint8_t type, reader_t *in, writer_t *out);

/* How one inference is to be done, and how it was. */
typedef struct {
    uint32_t tag;   /* the host's name for the input */
    uint16_t mode;  /* dhn_mode_t; afterwards that which it ran in */
    uint16_t point; /* operating point */
    uint16_t label; /* true class, POLICY_NO_LABEL: not known */
    uint8_t flags;  /* RUN_* */
} app_run_t;

/* One inference on the input in place, with its sample. */
dhn_status_t app_infer(app_t *self, app_run_t *how);

/* Samples to the host, as long as there are any. */
void app_drain(app_t *self);

/* Fills one network input (canonical int8, `bytes` of them, input `index`) from the sensor. Returns 0, or a negative
 * number when there is nothing to read. The application's author defines it; without it STREAM reports an error. Called
 * from the main loop, may take as long as it likes. */
int app_read_input(uint16_t index, int8_t *in, uint32_t bytes);

#endif
