/* Frames on the byte stream: COBS between zero bytes, CRC-32 at the end. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <string.h>

#include "bytes.h"
#include "dhn.h"
#include "hal.h"

enum { COBS_FULL = 254 /* data bytes in a block that implies no zero (Cheshire and Baker 1999) */ };

/* In place: every byte is written at or before the place it was read from. Returns the decoded length, 0 for nonsense. */
static uint32_t cobs_decode(uint8_t *bytes, uint32_t count)
{
    uint32_t in = 0, out = 0;
    while (in < count) {
        uint32_t run = bytes[in++] - 1u;
        if (run > count - in)
            return 0;
        memmove(bytes + out, bytes + in, run);
        in += run;
        out += run;
        if (run < COBS_FULL && in < count)
            bytes[out++] = 0;
    }
    return out;
}

static void cobs_send(const uint8_t *bytes, uint32_t count)
{
    uint32_t at = 0;
    bool more = true;
    while (more) {
        uint32_t run = 0;
        while (at + run < count && run < COBS_FULL && bytes[at + run] != 0)
            run++;
        const uint8_t code = (uint8_t)(run + 1);
        hal_write(&code, 1);
        hal_write(bytes + at, run);
        at += run;
        /* The zero that a block stands for is consumed; at the very end there must be one more (empty) block after it. */
        more = at < count;
        if (more && run < COBS_FULL)
            at++;
    }
}

static bool decode(frame_receiver_t *self, frame_t *frame)
{
    uint32_t count = cobs_decode(self->coded, self->count);
    if (count < FRAME_HEAD + FRAME_TAIL || count > FRAME_BYTES)
        return false;
    reader_t tail = {self->coded + count - FRAME_TAIL, self->coded + count, true};
    frame->crc = get_u32(&tail);
    if (dhn_crc32(0, self->coded, count - FRAME_TAIL) != frame->crc)
        return false;
    reader_t head = {self->coded, self->coded + FRAME_HEAD, true};
    frame->type = get_u8(&head);
    frame->flags = get_u8(&head);
    frame->sequence = get_u16(&head);
    frame->payload = self->coded + FRAME_HEAD;
    frame->bytes = count - FRAME_HEAD - FRAME_TAIL;
    return true;
}

bool frame_receive(frame_receiver_t *self, uint8_t byte, frame_t *frame)
{
    if (byte != 0) {
        if (self->count < FRAME_CODED)
            self->coded[self->count++] = byte;
        else
            self->too_long = true;
        return false;
    }
    bool empty = self->count == 0;
    bool good = !empty && !self->too_long && decode(self, frame);
    self->count = 0;
    self->too_long = false;
    if (good)
        self->good++;
    else if (!empty)
        self->bad++;
    return good;
}

void frame_send_again(const uint8_t *message, uint32_t payload_bytes)
{
    static const uint8_t zero = 0;
    hal_write(&zero, 1); /* what noise there was before this frame ends here, and only it is lost */
    cobs_send(message, FRAME_HEAD + payload_bytes + FRAME_TAIL);
    hal_write(&zero, 1);
}

void frame_send(uint8_t *message, uint8_t type, uint8_t flags, uint16_t sequence, uint32_t payload_bytes)
{
    writer_t head = {message, 0, FRAME_HEAD, true};
    put_u8(&head, type);
    put_u8(&head, flags);
    put_u16(&head, sequence);
    writer_t tail = {message + FRAME_HEAD + payload_bytes, 0, FRAME_TAIL, true};
    put_u32(&tail, dhn_crc32(0, message, FRAME_HEAD + payload_bytes));
    frame_send_again(message, payload_bytes);
}
