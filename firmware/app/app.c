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
    return done;
}

void app_drain(app_t *self)
{
    while (sampler_send(&self->sampler, &sample_frame)) {
    }
}

dhn_status_t app_infer(app_t *self, app_run_t *how)
{
    bool const policies = how->flags & RUN_POLICIES;
    bool const requested = how->flags & RUN_WANT_SAMPLE;
    bool const sampled = policies || requested;
    if (sampled && !sampler_has_room(&self->sampler))
        app_drain(self); /* the host waits for this run: better late than lost */
    if (sampled && sampler_open(&self->sampler, policies, requested))
        how->mode = DHN_SHADOW;
    dhn_status_t status = runner_run(&self->runner, how->mode, how->point, how->flags & RUN_PER_OP,
                                     sampled ? sampler_point : NULL, &self->sampler);
    verdict_t verdict = {.point = how->point, .label = how->label, .policies = policies, .requested = requested};
    if (sampled)
        sampler_close(&self->sampler, how->tag, how->mode != DHN_GATED, &verdict);
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
    sampler_start(&self->sampler, &self->runner, self->boot_id);
    link_start(&self->link, app_request, self);
    if (self->runner.status == DHN_OK)
        slots_start(&self->slots, dhn_header(&self->runner.model)->hash, attach, self);
}

int main(int argc, char **argv)
{
    static uint8_t bytes[64];
    hal_init(argc, argv);
    start(&app);
    for (;;) {
        size_t count = hal_read(bytes, sizeof bytes);
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
}
