/* Requests from the host: each is executed once and answered, however often it arrives. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>

void link_start(link_t *self, link_handler_t *handler, void *context)
{
    memset(self, 0, sizeof *self);
    self->handler = handler;
    self->context = context;
}

static void answer(link_t *self, const frame_t *frame)
{
    reader_t in = {frame->payload, frame->payload + frame->bytes, true};
    writer_t out = {self->reply.message + FRAME_HEAD, 1, APP_MTU, true};
    int8_t status = self->handler(self->context, frame->type, &in, &out);
    out.at[0] = (uint8_t)status;
    self->reply_bytes = out.count;
    self->last_crc = frame->crc;
    self->answered = true;
    frame_send(self->reply.message, frame->type | LINK_REPLY, 0, frame->sequence, self->reply_bytes);
}

static void frame_arrived(link_t *self, const frame_t *frame)
{
    if (frame->type & LINK_REPLY)
        return; /* an echo of our own: a line that is looped back must not keep us busy */
    if (self->answered && frame->crc == self->last_crc) {
        self->repeats++;
        frame_send_again(self->reply.message, self->reply_bytes);
        return;
    }
    answer(self, frame);
}

uint32_t link_receive(link_t *self, const uint8_t *bytes, uint32_t count)
{
    frame_t frame;
    uint32_t good = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!frame_receive(&self->receiver, bytes[i], &frame))
            continue;
        good++;
        frame_arrived(self, &frame);
    }
    return good;
}
