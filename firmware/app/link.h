/* Requests from the host: each is executed once and answered, however often it arrives (docs/link-protocol.md). */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_H
#define LINK_H

#include <stdint.h>

#include "bytes.h"
#include "frame.h"

enum { LINK_PROTOCOL = 2 };

/* Frame types. A reply carries its request's type with LINK_REPLY set, and its sequence number. */
enum {
    LINK_HELLO = 0x01,
    LINK_RESET = 0x02,
    LINK_BAUD = 0x03,
    LINK_COUNTERS = 0x04,
    LINK_INPUT = 0x05,
    LINK_RUN = 0x06,
    LINK_PROFILE = 0x07,
    LINK_STREAM = 0x08,
    LINK_POINT = 0x09,
    LINK_SAMPLER = 0x0A,
    LINK_ENVIRONMENT = 0x0B,
    LINK_MONITOR = 0x0C,
    LINK_SLOT_STATUS = 0x10,
    LINK_SLOT_BEGIN = 0x11,
    LINK_SLOT_WRITE = 0x12,
    LINK_SLOT_FINISH = 0x13,
    LINK_SLOT_TRIAL = 0x14,
    LINK_SLOT_CONFIRM = 0x15,
    LINK_SLOT_REVERT = 0x16,
    LINK_SAMPLE = 0x40,
    LINK_REPLY = 0x80
};

/* Status byte of a reply: 0, a dhn_status_t, a slot_status_t, or one of these. */
enum {
    LINK_ERR_TYPE = -32,   /* no such request */
    LINK_ERR_SIZE = -33,   /* a payload of the wrong length */
    LINK_ERR_RANGE = -34,  /* an argument out of range */
    LINK_ERR_INPUT = -35,  /* the input is not complete */
    LINK_ERR_CANNOT = -36, /* this platform or firmware cannot do that */
    LINK_ERR_SENSOR = -37  /* the application's input callback failed */
};

/* Flag bits of RUN and INPUT payloads. */
enum {
    RUN_WANT_OUTPUT = 1,
    RUN_WANT_SAMPLE = 2,
    RUN_PER_OP = 4,
    RUN_POLICIES = 8, /* the sampler's policies apply, as they do to sensor input */
    RUN_HAS_INPUT = 16,
    INPUT_PACKBITS = 32,
    RUN_HAS_LABEL = 64
};

/* Reads the request's payload from `in`, appends the reply's payload to `out`, returns the status. */
typedef int8_t link_handler_t(void *context, uint8_t type, reader_t *in, writer_t *out);

typedef struct {
    frame_receiver_t receiver;
    link_handler_t *handler;
    void *context;
    /* the last request and its answer */
    frame_buffer_t reply;
    uint32_t reply_bytes;
    uint32_t last_crc; /* of the request, which covers type and sequence number too */
    bool answered;     /* any at all */
    uint32_t repeats;
} link_t;

void link_start(link_t *self, link_handler_t *handler, void *context);

/* Takes bytes of the stream and answers the requests that they complete. Returns the number of good frames. */
uint32_t link_receive(link_t *self, const uint8_t *bytes, uint32_t count);

#endif
