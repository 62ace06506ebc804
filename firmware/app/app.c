/* The device application's single loop. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "app.h"

#include <string.h>

#include "dhn.h"
#include "hal.h"

static app_t app;
static frame_buffer_t sample_frame;

int __attribute__((weak)) app_read_input(uint16_t index, int8_t *in, uint32_t bytes)
{
    (void)index;
    (void)in;
    (void)bytes;
    return -1;
}

static bool attach(void *context, const void *bundle, uint32_t bytes, bool really)
{
    app_t *self = context;
    if (self->runner.status != DHN_OK)
        return false;
    if (!really) {
        dhn_model_t trial = self->runner.model;
        return dhn_attach(&trial, bundle, bytes) == DHN_OK;
    }
    bool done = true;
    if (bundle == NULL)
        dhn_detach(&self->runner.model);
    else
        done = dhn_attach(&self->runner.model, bundle, bytes) == DHN_OK;
    sampler_resize(&self->sampler);
    monitor_clear(&self->monitor);
    return done;
}

uint32_t app_state_bytes(void)
{
    return sizeof app + sizeof sample_frame;
}

void app_drain(app_t *self)
{
    while (sampler_send(&self->sampler, &sample_frame)) {
    }
}

/* At a hook point, with the clock stopped. The frame for samples is not in use while a network runs. */
static void watch_point(void *context, uint16_t point)
{
    app_t *self = context;
    sampler_point(&self->sampler, point);
    if (self->watching)
        monitor_point(&self->monitor, point, (int8_t *)sample_frame.message, sizeof sample_frame.message);
}

/* Whether every hook left the run as it was. */
static bool left_alone(const app_t *self, uint16_t mode)
{
    const dhn_hook_t *hook = dhn_hooks(&self->runner.model);
    const dhn_trace_t *trace = &self->runner.trace;
    for (uint16_t i = 0; mode == DHN_GATED && i < trace->hook_count; i++)
        if (trace->decision[i] == DHN_ACTED && hook[i].action != DHN_ACTION_BLEND)
            return false;
    return true;
}

/* Decides how the run is done, as far as the host has left that open. True: it is a full one, without a lot's doing. */
static bool prepare(app_t *self, app_run_t *how)
{
    perception_update(&self->perception);
    if (how->point == POINT_AUTOMATIC)
        how->point = dhn_choose_point(&self->runner.model, self->point);
    if (self->watching) {
        monitor_open(&self->monitor, how->point);
        if (self->monitor.state == MONITOR_FALLEN && how->mode == DHN_GATED)
            how->mode = DHN_SHADOW;
    }
    return how->mode != DHN_GATED || dhn_bundle_header(&self->runner.model) == NULL;
}

static void finish(app_t *self, const app_run_t *how, bool full_anyway)
{
    verdict_t verdict = {.point = how->point,
                         .label = how->label,
                         .full_anyway = full_anyway,
                         .policies = how->flags & RUN_POLICIES,
                         .requested = how->flags & RUN_WANT_SAMPLE};
    if (self->watching) {
        monitor_close(&self->monitor);
        verdict.drifted = self->monitor.drifted;
    }
    if (verdict.policies || verdict.requested)
        sampler_close(&self->sampler, how->tag, how->mode != DHN_GATED, &verdict);
    perception_learn(&self->perception, left_alone(self, how->mode));
}

dhn_status_t app_infer(app_t *self, app_run_t *how)
{
    bool const policies = how->flags & RUN_POLICIES;
    bool const requested = how->flags & RUN_WANT_SAMPLE;
    bool const sampled = policies || requested;
    if (sampled && !sampler_has_room(&self->sampler))
        app_drain(self); /* the host waits for this run: better late than lost */
    self->watching = policies && self->monitor.state != MONITOR_OFF;
    bool const full_anyway = prepare(self, how);
    if (sampled && sampler_open(&self->sampler, policies, requested, full_anyway))
        how->mode = DHN_SHADOW;
    dhn_status_t status =
        runner_run(&self->runner, how->mode, how->point, how->flags & RUN_PER_OP, sampled ? watch_point : NULL, self);
    finish(self, how, full_anyway);
    return status;
}

/* A reset or a change of speed waits until its reply is out. */
static void act_on_request(app_t *self)
{
    if (self->reset_asked)
        hal_reset();
    if (self->baud_asked == 0)
        return;
    if (hal_set_baud(self->baud_asked) == 0) {
        self->baud = self->baud_asked;
        self->baud_trial = true;
        self->baud_since = hal_ticks();
    }
    self->baud_asked = 0;
}

/* A host that does not follow to the new speed would be lost for good. */
static void watch_baud(app_t *self)
{
    if (!self->baud_trial || hal_ticks() - self->baud_since < APP_BAUD_PATIENCE_S * hal_tick_hz())
        return;
    (void)hal_set_baud(APP_BAUD);
    self->baud = APP_BAUD;
    self->baud_trial = false;
}

static void start(app_t *self)
{
    self->baud = APP_BAUD;
    runner_start(&self->runner);
    self->boot_id = hal_random_seed();
    perception_start(&self->perception, &self->runner);
    monitor_start(&self->monitor, &self->runner);
    sampler_start(&self->sampler, &self->runner, self->perception.channel, self->boot_id);
    self->automatic = true;
    link_start(&self->link, app_request, self);
    if (self->runner.status == DHN_OK)
        slots_start(&self->slots, dhn_header(&self->runner.model)->hash, attach, self);
}

void app_start(int argc, char **argv)
{
    hal_init(argc, argv);
    start(&app);
}

void app_step(void)
{
    static uint8_t bytes[64];
    size_t const count = hal_read(bytes, sizeof bytes);
    for (size_t i = 0; i < count; i++) {
        if (link_receive(&app.link, bytes + i, 1) == 0)
            continue;
        app.baud_trial = false; /* the host has followed, if there was a change */
        act_on_request(&app);
    }
    watch_baud(&app);
    if (count == 0 && !sampler_send(&app.sampler, &sample_frame))
        hal_idle();
}
