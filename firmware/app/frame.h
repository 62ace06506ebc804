/* Frames on the byte stream: COBS between zero bytes, CRC-32 at the end (docs/link-protocol.md). */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "app_config.h"

enum {
    FRAME_HEAD = 4, /* type, flags, sequence number */
    FRAME_TAIL = 4, /* CRC-32 */
    FRAME_BYTES = FRAME_HEAD + APP_MTU + FRAME_TAIL,
    FRAME_CODED = FRAME_BYTES + FRAME_BYTES / 254 + 1
};

/* A frame being built: fill message + FRAME_HEAD with the payload, then frame_send. */
typedef struct {
    uint8_t message[FRAME_BYTES];
} frame_buffer_t;

/* Zeroed at the start. */
typedef struct {
    uint8_t coded[FRAME_CODED];
    uint32_t count;
    bool too_long; /* until the next zero */
    uint32_t good, bad;
} frame_receiver_t;

/* Points into the receiver; valid until the next frame_receive. `crc` names the content. */
typedef struct {
    uint8_t type;
    uint8_t flags;
    uint16_t sequence;
    const uint8_t *payload;
    uint32_t bytes;
    uint32_t crc;
} frame_t;

/* Takes the next byte of the stream. True: `frame` is a frame whose CRC is right. Anything else between two zeros is
 * counted in `bad` and forgotten; two zeros with nothing between are no frame. */
bool frame_receive(frame_receiver_t *self, uint8_t byte, frame_t *frame);

/* Fills in the head and CRC around `payload_bytes` that lie at message + FRAME_HEAD, and sends it by hal_write. `message`
 * has room for head, payload and tail, and may be sent again by frame_send_again. */
void frame_send(uint8_t *message, uint8_t type, uint8_t flags, uint16_t sequence, uint32_t payload_bytes);
void frame_send_again(const uint8_t *message, uint32_t payload_bytes);

#endif
