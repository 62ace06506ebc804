/* Two flash slots for hook bundles: written while inactive, tried for one start, then confirmed or reverted. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "slots.h"

#include <string.h>

#include "bytes.h"
#include "dhn.h"
#include "hal.h"

/* Header, little-endian. Identity: 0 magic, 4 CRC-32 of the info. It is a program unit of its own, so one program makes
 * or breaks it. Info, in the units behind it: 0 version, 4 bytes, 8 CRC-32 of the bundle, 12 ones, 16 model hash. Marks
 * from 64. */
enum {
    AT_IDENTITY = 0,
    IDENTITY_BYTES = 8,
    AT_INFO = HAL_FLASH_UNIT,
    INFO_BYTES = 32,
    AT_INFO_END = AT_INFO + INFO_BYTES,
    AT_MARKS = 64,
    MARK_STRIDE = 32
};
#if HAL_FLASH_UNIT != 8 && HAL_FLASH_UNIT != 16 && HAL_FLASH_UNIT != 32
#error "HAL_FLASH_UNIT: 8, 16 or 32 bytes"
#endif
#define SLOT_MAGIC 0x534E4844u /* "DHNS" */

typedef enum { MARK_PENDING, MARK_TRIED, MARK_CONFIRMED, MARK_REVERTED } mark_t;

static uint32_t slot_bytes(void)
{
    uint32_t page = hal_flash_page_bytes();
    return hal_flash_bytes() / SLOT_COUNT / page * page;
}

uint32_t slots_capacity(void)
{
    uint32_t bytes = slot_bytes();
    return bytes > SLOT_DATA ? bytes - SLOT_DATA : 0;
}

static uint32_t base_of(uint8_t slot)
{
    return slot * slot_bytes();
}

static const uint8_t *data_of(uint8_t slot)
{
    return hal_flash() + base_of(slot) + SLOT_DATA;
}

/* -- Marks */

static const uint8_t *mark_at(uint8_t slot, mark_t mark)
{
    return hal_flash() + base_of(slot) + AT_MARKS + (uint32_t)mark * MARK_STRIDE;
}

static bool all(const uint8_t *bytes, uint8_t value)
{
    for (uint32_t i = 0; i < HAL_FLASH_UNIT; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static bool mark_touched(uint8_t slot, mark_t mark)
{
    return !all(mark_at(slot, mark), 0xFF);
}

static bool mark_complete(uint8_t slot, mark_t mark)
{
    return all(mark_at(slot, mark), 0);
}

static slot_status_t set_mark(uint8_t slot, mark_t mark)
{
    static const uint8_t zeros[HAL_FLASH_UNIT];
    uint32_t offset = base_of(slot) + AT_MARKS + (uint32_t)mark * MARK_STRIDE;
    if (hal_flash_program(offset, zeros, HAL_FLASH_UNIT) != 0 || !mark_complete(slot, mark))
        return SLOT_ERR_FLASH;
    return SLOT_OK;
}

/* -- Identity */

static bool intact(uint8_t slot, slot_info_t *info)
{
    const uint8_t *header = hal_flash() + base_of(slot);
    reader_t in = {header, header + AT_INFO_END, true};
    uint32_t magic = get_u32(&in);
    uint32_t crc = get_u32(&in);
    (void)get_bytes(&in, AT_INFO - IDENTITY_BYTES);
    info->version = get_u32(&in);
    info->bytes = get_u32(&in);
    info->crc32 = get_u32(&in);
    (void)get_u32(&in);
    memcpy(info->model_hash, get_bytes(&in, SLOT_HASH), SLOT_HASH);
    return magic == SLOT_MAGIC && crc == dhn_crc32(0, header + AT_INFO, INFO_BYTES) && info->bytes <= slots_capacity();
}

static bool read_info(uint8_t slot, slot_info_t *info)
{
    if (slots_capacity() > 0 && intact(slot, info))
        return true;
    memset(info, 0, sizeof *info);
    return false;
}

static slot_status_t write_info(uint8_t slot, const slot_info_t *info)
{
    uint8_t header[AT_INFO_END];
    writer_t out = {header + AT_INFO, 0, INFO_BYTES, true};
    memset(header, 0xFF, AT_INFO); /* a unit may be larger than the identity */
    put_u32(&out, info->version);
    put_u32(&out, info->bytes);
    put_u32(&out, info->crc32);
    put_u32(&out, 0xFFFFFFFFu);
    put_bytes(&out, info->model_hash, SLOT_HASH);
    writer_t identity = {header, 0, IDENTITY_BYTES, true};
    put_u32(&identity, SLOT_MAGIC);
    put_u32(&identity, dhn_crc32(0, header + AT_INFO, INFO_BYTES));
    slot_info_t back;
    if (hal_flash_program(base_of(slot) + AT_INFO, header + AT_INFO, INFO_BYTES) != 0 ||
        hal_flash_program(base_of(slot) + AT_IDENTITY, header, AT_INFO) != 0 || !read_info(slot, &back))
        return SLOT_ERR_FLASH;
    return SLOT_OK;
}

slot_state_t slots_state(const slots_t *self, uint8_t slot, slot_info_t *info)
{
    (void)self;
    if (!read_info(slot, info))
        return SLOT_EMPTY;
    if (mark_touched(slot, MARK_REVERTED))
        return SLOT_REVERTED;
    if (mark_complete(slot, MARK_CONFIRMED))
        return SLOT_CONFIRMED;
    if (mark_touched(slot, MARK_TRIED))
        return SLOT_TRIED;
    return mark_complete(slot, MARK_PENDING) ? SLOT_PENDING : SLOT_WRITTEN;
}

/* -- Start-up */

static bool ours(const slots_t *self, const slot_info_t *info)
{
    return memcmp(info->model_hash, self->model_hash, SLOT_HASH) == 0;
}

static bool attach(slots_t *self, uint8_t slot, const slot_info_t *info)
{
    if (dhn_crc32(0, data_of(slot), info->bytes) != info->crc32)
        return false;
    if (!self->attach(self->context, data_of(slot), info->bytes, true))
        return false;
    self->active = (int8_t)slot;
    return true;
}

static void revert_abandoned_trials(slots_t *self)
{
    slot_info_t info;
    for (uint8_t slot = 0; slot < SLOT_COUNT; slot++) {
        if (slots_state(self, slot, &info) != SLOT_TRIED)
            continue;
        (void)set_mark(slot, MARK_REVERTED); /* should it fail, the mark `tried` still keeps the slot from running */
        self->reverted++;
    }
}

static void try_pending(slots_t *self)
{
    slot_info_t info;
    for (uint8_t slot = 0; slot < SLOT_COUNT && self->active < 0; slot++) {
        if (slots_state(self, slot, &info) != SLOT_PENDING || !ours(self, &info))
            continue;
        if (set_mark(slot, MARK_TRIED) == SLOT_OK && attach(self, slot, &info)) {
            self->trial = true;
        } else {
            (void)set_mark(slot, MARK_REVERTED);
            self->corrupt++;
        }
    }
}

/* Attaches the newest confirmed bundle that is intact; `count_damage` only where a start looks for the first time. */
static void attach_confirmed(slots_t *self, bool count_damage)
{
    slot_info_t info[SLOT_COUNT];
    bool usable[SLOT_COUNT];
    for (uint8_t slot = 0; slot < SLOT_COUNT; slot++)
        usable[slot] = slots_state(self, slot, &info[slot]) == SLOT_CONFIRMED && ours(self, &info[slot]);
    uint8_t first = usable[1] && (!usable[0] || info[1].version > info[0].version) ? 1 : 0;
    for (uint8_t i = 0; i < SLOT_COUNT && self->active < 0; i++) {
        uint8_t slot = i == 0 ? first : (uint8_t)(1 - first);
        if (usable[slot] && !attach(self, slot, &info[slot]) && count_damage)
            self->corrupt++;
    }
}

void slots_start(slots_t *self, const uint8_t *model_hash, slot_attach_fn *attach_fn, void *context)
{
    memset(self, 0, sizeof *self);
    self->model_hash = model_hash;
    self->attach = attach_fn;
    self->context = context;
    self->active = -1;
    self->target = -1;
    revert_abandoned_trials(self);
    try_pending(self);
    if (self->active < 0)
        attach_confirmed(self, true);
}

/* -- Upload */

static slot_status_t erase(uint8_t slot, uint32_t bytes)
{
    static const uint8_t zeros[HAL_FLASH_UNIT];
    uint32_t page = hal_flash_page_bytes();
    if (hal_flash_program(base_of(slot) + AT_IDENTITY, zeros, HAL_FLASH_UNIT) != 0)
        return SLOT_ERR_FLASH;
    for (uint32_t at = 0; at < SLOT_DATA + bytes; at += page)
        if (hal_flash_erase(base_of(slot) + at) != 0)
            return SLOT_ERR_FLASH;
    return SLOT_OK;
}

static bool same(const slot_info_t *a, const slot_info_t *b)
{
    return a->version == b->version && a->bytes == b->bytes && a->crc32 == b->crc32 &&
           memcmp(a->model_hash, b->model_hash, SLOT_HASH) == 0;
}

/* With none attached, what is confirmed is for another model or damaged: either slot may go. */
static uint8_t inactive(const slots_t *self)
{
    return self->active == 0 ? 1 : 0;
}

static slot_status_t admit(const slots_t *self, const slot_info_t *info)
{
    slot_info_t active;
    if (self->trial)
        return SLOT_ERR_BUSY;
    if (info->bytes == 0 || info->bytes > slots_capacity())
        return SLOT_ERR_TOO_BIG;
    if (!ours(self, info))
        return SLOT_ERR_MODEL;
    if (self->active >= 0 && read_info((uint8_t)self->active, &active) && info->version <= active.version)
        return SLOT_ERR_OLD;
    return info->version == 0 ? SLOT_ERR_OLD : SLOT_OK;
}

slot_status_t slots_begin(slots_t *self, const slot_info_t *info, uint32_t *next)
{
    if (self->target < 0 || !same(info, &self->incoming)) {
        slot_status_t status = admit(self, info);
        if (status != SLOT_OK)
            return status;
        self->target = -1;
        uint8_t slot = inactive(self);
        status = erase(slot, info->bytes);
        if (status != SLOT_OK)
            return status;
        self->incoming = *info;
        self->target = (int8_t)slot;
        self->next = 0;
    }
    *next = self->next;
    return SLOT_OK;
}

/* The last unit of a bundle may be partly outside it; those bytes stay erased. */
static slot_status_t program(uint32_t offset, const uint8_t *data, uint32_t bytes)
{
    uint8_t last[HAL_FLASH_UNIT];
    uint32_t whole = bytes / HAL_FLASH_UNIT * HAL_FLASH_UNIT;
    memset(last, 0xFF, sizeof last);
    memcpy(last, data + whole, bytes - whole);
    if (whole > 0 && hal_flash_program(offset, data, whole) != 0)
        return SLOT_ERR_FLASH;
    if (bytes > whole && hal_flash_program(offset + whole, last, HAL_FLASH_UNIT) != 0)
        return SLOT_ERR_FLASH;
    return memcmp(hal_flash() + offset, data, bytes) == 0 ? SLOT_OK : SLOT_ERR_FLASH;
}

slot_status_t slots_write(slots_t *self, uint32_t offset, const uint8_t *data, uint32_t bytes)
{
    if (self->target < 0)
        return SLOT_ERR_CLOSED;
    if (offset > self->incoming.bytes || bytes > self->incoming.bytes - offset)
        return SLOT_ERR_TOO_BIG;
    bool last = offset + bytes == self->incoming.bytes;
    if (offset > self->next || offset % HAL_FLASH_UNIT != 0 || (bytes % HAL_FLASH_UNIT != 0 && !last))
        return SLOT_ERR_GAP;
    slot_status_t status = program(base_of((uint8_t)self->target) + SLOT_DATA + offset, data, bytes);
    if (status == SLOT_OK && offset + bytes > self->next)
        self->next = offset + bytes;
    return status;
}

slot_status_t slots_finish(slots_t *self)
{
    if (self->target < 0)
        return SLOT_ERR_CLOSED;
    uint8_t slot = (uint8_t)self->target;
    if (self->next < self->incoming.bytes)
        return SLOT_ERR_GAP;
    self->target = -1;
    if (dhn_crc32(0, data_of(slot), self->incoming.bytes) != self->incoming.crc32)
        return SLOT_ERR_DATA;
    if (!self->attach(self->context, data_of(slot), self->incoming.bytes, false))
        return SLOT_ERR_BUNDLE;
    return write_info(slot, &self->incoming);
}

/* -- Life after the upload */

slot_status_t slots_trial(slots_t *self)
{
    slot_info_t info;
    if (self->trial)
        return SLOT_ERR_BUSY;
    slot_state_t state = slots_state(self, inactive(self), &info);
    if (state != SLOT_WRITTEN && state != SLOT_PENDING)
        return SLOT_ERR_NOTHING;
    return set_mark(inactive(self), MARK_PENDING);
}

slot_status_t slots_confirm(slots_t *self)
{
    if (!self->trial)
        return SLOT_ERR_NOTHING;
    slot_status_t status = set_mark((uint8_t)self->active, MARK_CONFIRMED);
    if (status == SLOT_OK)
        self->trial = false;
    return status;
}

slot_status_t slots_revert(slots_t *self)
{
    slot_info_t info;
    uint8_t other = inactive(self);
    if (!self->trial && slots_state(self, other, &info) == SLOT_PENDING)
        return set_mark(other, MARK_REVERTED);
    if (self->active < 0)
        return SLOT_ERR_NOTHING;
    slot_status_t status = set_mark((uint8_t)self->active, MARK_REVERTED);
    if (status != SLOT_OK)
        return status;
    self->active = -1;
    self->trial = false;
    (void)self->attach(self->context, NULL, 0, true);
    attach_confirmed(self, false);
    self->target = -1; /* an upload under way may have been for the slot that is attached now */
    return SLOT_OK;
}
