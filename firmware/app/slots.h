/* Two flash slots for hook bundles: written while inactive, tried for one start, then confirmed or reverted. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SLOTS_H
#define SLOTS_H

#include <stdbool.h>
#include <stdint.h>

/* The flash area is split in two equal slots. A slot starts with a header of SLOT_DATA bytes; the bundle follows and runs
 * from there. Marks in the header turn from 0xFF.. to 0 and never back, so every change of state is one program unit:
 *
 *   empty -> written -> pending -> tried -> confirmed -> reverted
 *                 (any of them may go to reverted, or back to empty by slots_begin)
 *
 * Rules that make a power cut harmless at any moment:
 * - the slot that is attached, and while a trial runs the other one too, is never written;
 * - a slot's identity is destroyed (one unit) before its pages are erased, and written (one unit) after its data;
 * - `tried` is marked before a bundle on trial runs; a start that finds it without `confirmed` reverts;
 * - a torn mark counts as tried and as reverted, but not as pending nor as confirmed. */

enum { SLOT_COUNT = 2, SLOT_DATA = 256, SLOT_HASH = 16 };

typedef enum {
    SLOT_EMPTY = 0,
    SLOT_WRITTEN = 1,
    SLOT_PENDING = 2, /* will be tried at the next start */
    SLOT_TRIED = 3,   /* on trial now; the next start reverts it */
    SLOT_CONFIRMED = 4,
    SLOT_REVERTED = 5
} slot_state_t;

/* Not in dhn_status_t's range, so that both can travel in one status byte. */
typedef enum {
    SLOT_OK = 0,
    SLOT_ERR_BUSY = -40,    /* a bundle is on trial: confirm or revert it first */
    SLOT_ERR_OLD = -41,     /* not newer than the confirmed bundle */
    SLOT_ERR_TOO_BIG = -42, /* does not fit into a slot */
    SLOT_ERR_MODEL = -43,   /* for another main pack */
    SLOT_ERR_CLOSED = -44,  /* no upload is under way */
    SLOT_ERR_GAP = -45,     /* bytes before this offset are missing */
    SLOT_ERR_DATA = -46,    /* the bytes in the slot are not those that were announced */
    SLOT_ERR_FLASH = -47,   /* the flash did not take what was programmed */
    SLOT_ERR_NOTHING = -48, /* nothing to try, confirm or revert */
    SLOT_ERR_BUNDLE = -49   /* the runtime refuses the bundle */
} slot_status_t;

typedef struct {
    uint32_t version; /* monotonic, from 1 */
    uint32_t bytes;
    uint32_t crc32;
    uint8_t model_hash[SLOT_HASH];
} slot_info_t;

/* Asks the runtime. `attach` false: only check whether it would take the bundle. NULL with `attach`: detach. */
typedef bool slot_attach_fn(void *context, const void *bundle, uint32_t bytes, bool attach);

/* Filled in by slots_start; read freely, change nothing. */
typedef struct {
    const uint8_t *model_hash;
    slot_attach_fn *attach;
    void *context;
    int8_t active; /* slot whose bundle is attached, -1: none */
    bool trial;    /* ... and it is on trial */
    int8_t target; /* slot being written, -1: none */
    slot_info_t incoming;
    uint32_t next;     /* bytes of the upload that are in flash */
    uint32_t corrupt;  /* slots found damaged by slots_start */
    uint32_t reverted; /* trials that slots_start found unconfirmed */
} slots_t;

/* At start-up: settles what an earlier life left open and attaches the pending bundle, else the newest confirmed one that
 * is intact, else none. `model_hash` (SLOT_HASH bytes) and `context` must outlive `self`. */
void slots_start(slots_t *self, const uint8_t *model_hash, slot_attach_fn *attach, void *context);

/* Opens the inactive slot for a bundle, or goes on with the same one: *next is the offset to send from. Erases when it
 * starts anew, which may take a second. */
slot_status_t slots_begin(slots_t *self, const slot_info_t *info, uint32_t *next);

/* Bytes for `offset` (multiple of HAL_FLASH_UNIT, at most `next`; all but the last write are multiples of it too).
 * Writing the same bytes again is fine. */
slot_status_t slots_write(slots_t *self, uint32_t offset, const uint8_t *data, uint32_t bytes);

/* Checks CRC and bundle where they lie, then makes the slot valid. */
slot_status_t slots_finish(slots_t *self);

/* The newest written bundle will be tried by the next start (hal_reset). */
slot_status_t slots_trial(slots_t *self);
slot_status_t slots_confirm(slots_t *self);

/* Gives up the bundle on trial, else the pending one, else the active one, and attaches the newest confirmed that is left. */
slot_status_t slots_revert(slots_t *self);

/* State of slot 0 or 1; `info` is zero where it is empty. */
slot_state_t slots_state(const slots_t *self, uint8_t slot, slot_info_t *info);
uint32_t slots_capacity(void);

#endif
