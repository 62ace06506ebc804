/* The module _dhn: thin functions over the runtime, for dhn.py. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <string.h>

/* Lives in a bytearray of dhn.py. */
typedef struct {
    dhn_model_t model;
    dhn_trace_t trace;
    uint32_t arena_bytes, pack_bytes, bundle_bytes;
    uint32_t reached; /* hook points of the last run, one bit each */
    uint8_t *features;
    uint32_t feature_bytes, feature_have;
} module_state_t;

static mp_obj_t number(mp_int_t value)
{
    return mp_obj_new_int(value);
}

static mp_buffer_info_t buffer(mp_obj_t obj, mp_uint_t flags)
{
    mp_buffer_info_t info = {NULL, 0, 0};
    mp_get_buffer_raise(obj, &info, flags);
    return info;
}

/* In 32 bits, as the runtime counts. */
static uint32_t length(const mp_buffer_info_t *info)
{
    return info->len < UINT32_MAX ? (uint32_t)info->len : UINT32_MAX;
}

/* NULL where the bytearray is none of ours. */
static module_state_t *state_of(mp_obj_t obj)
{
    mp_buffer_info_t info = buffer(obj, MP_BUFFER_WRITE);
    return info.len >= sizeof(module_state_t) && (uintptr_t)info.buf % sizeof(void *) == 0 ? info.buf : NULL;
}

static bool in_place(mp_obj_t obj, const void *at, uint32_t bytes, mp_uint_t flags)
{
    mp_buffer_info_t info = buffer(obj, flags);
    return info.buf == at && info.len >= bytes;
}

/* The state of a loaded model whose buffers are where they were; NULL otherwise. */
static module_state_t *loaded(const mp_obj_t *arguments)
{
    module_state_t *self = state_of(arguments[0]);
    if (self == NULL || self->model.pack == NULL ||
        !in_place(arguments[1], self->model.pack, self->pack_bytes, MP_BUFFER_READ) ||
        !in_place(arguments[2], self->model.arena, self->arena_bytes, MP_BUFFER_WRITE))
        return NULL;
    return self;
}

static bool has_arena(const module_state_t *self, mp_obj_t arena)
{
    return self != NULL && self->model.pack != NULL &&
           in_place(arena, self->model.arena, self->arena_bytes, MP_BUFFER_WRITE);
}

mp_obj_t module_state_bytes(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    (void)arguments;
    return number((mp_int_t)sizeof(module_state_t));
}

mp_obj_t module_need(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    mp_buffer_info_t pack = buffer(arguments[0], MP_BUFFER_READ);
    const dhn_header_t *header = pack.buf;
    if ((uintptr_t)pack.buf % 4 != 0)
        return number(DHN_ERR_ALIGN);
    if (pack.len < sizeof *header)
        return number(DHN_ERR_TRUNCATED);
    if (header->magic != DHN_MAGIC)
        return number(DHN_ERR_MAGIC);
    return number(header->arena_bytes > INT32_MAX / 4 ? DHN_ERR_BOUNDS : (mp_int_t)header->arena_bytes);
}

mp_obj_t module_load(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    module_state_t *self = state_of(arguments[0]);
    mp_buffer_info_t pack = buffer(arguments[1], MP_BUFFER_READ);
    mp_buffer_info_t arena = buffer(arguments[2], MP_BUFFER_WRITE);
    if (self == NULL)
        return number(DHN_ERR_ARGUMENT);
    memset(self, 0, sizeof *self);
    self->pack_bytes = length(&pack);
    self->arena_bytes = length(&arena);
    dhn_status_t status = dhn_load(&self->model, pack.buf, self->pack_bytes, arena.buf, self->arena_bytes,
                                   module_registry, module_registry_count);
    if (status != DHN_OK)
        memset(self, 0, sizeof *self);
    return number(status);
}

mp_obj_t module_attach(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    module_state_t *self = loaded(arguments);
    if (self == NULL)
        return number(DHN_ERR_ARGUMENT);
    if (arguments[3] == mp_const_none) {
        dhn_detach(&self->model);
        return number(DHN_OK);
    }
    mp_buffer_info_t bundle = buffer(arguments[3], MP_BUFFER_READ);
    uint32_t bytes = length(&bundle);
    dhn_status_t status = dhn_attach(&self->model, bundle.buf, bytes);
    if (status == DHN_OK)
        self->bundle_bytes = bytes;
    return number(status);
}

mp_obj_t module_tensor(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    module_state_t *self = state_of(arguments[0]);
    uint16_t i = (uint16_t)mp_obj_get_int(arguments[2]);
    uint32_t bytes = 0;
    if (self == NULL || self->model.pack == NULL)
        return number(DHN_ERR_ARGUMENT);
    const int8_t *at =
        mp_obj_get_int(arguments[1]) ? dhn_output(&self->model, i, &bytes) : dhn_input(&self->model, i, &bytes);
    return number(at == NULL ? DHN_ERR_ARGUMENT : (mp_int_t)bytes);
}

/* `given` is how long the caller's side is; NULL: there is nothing to copy to or from. */
static mp_obj_t copied(void *to, const void *from, uint32_t bytes, size_t given)
{
    if (to == NULL || from == NULL || given != bytes)
        return number(DHN_ERR_ARGUMENT);
    memcpy(to, from, bytes);
    return number(DHN_OK);
}

mp_obj_t module_put(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    module_state_t *self = state_of(arguments[0]);
    uint16_t i = (uint16_t)mp_obj_get_int(arguments[2]);
    uint32_t bytes = 0;
    int8_t *to = has_arena(self, arguments[1]) ? dhn_input(&self->model, i, &bytes) : NULL;
    mp_buffer_info_t from = buffer(arguments[3], MP_BUFFER_READ);
    return copied(to, from.buf, bytes, from.len);
}

mp_obj_t module_get(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    module_state_t *self = state_of(arguments[0]);
    uint16_t i = (uint16_t)mp_obj_get_int(arguments[2]);
    uint32_t bytes = 0;
    const int8_t *from = has_arena(self, arguments[1]) ? dhn_output(&self->model, i, &bytes) : NULL;
    mp_buffer_info_t to = buffer(arguments[3], MP_BUFFER_WRITE);
    return copied(to.buf, from, bytes, to.len);
}

/* Appends the point's number and feature as a sample record holds them. */
static void keep_feature(void *context, uint16_t point)
{
    module_state_t *const self = context;
    uint32_t room = self->feature_bytes - self->feature_have;
    uint8_t *const at = self->features + self->feature_have;
    if (room < 2)
        return;
    int32_t bytes = dhn_feature(&self->model, point, (int8_t *)at + 2, room - 2);
    if (bytes < 0)
        return;
    at[0] = (uint8_t)point;
    at[1] = (uint8_t)(point >> 8);
    self->feature_have += 2 + (uint32_t)bytes;
}

mp_obj_t module_run(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    module_state_t *self = loaded(arguments);
    if (self == NULL || (self->model.bundle != NULL &&
                         (arguments[3] == mp_const_none ||
                          !in_place(arguments[3], self->model.bundle, self->bundle_bytes, MP_BUFFER_READ))))
        return number(DHN_ERR_ARGUMENT);
    mp_uint_t how = (mp_uint_t)mp_obj_get_int(arguments[4]);
    const dhn_observer_t observer = {.context = self, .on_point = keep_feature};
    dhn_run_t run = {.mode = how & 0xFF, .operating_point = (uint16_t)(how >> 8)};
    self->feature_have = 0;
    if (arguments[5] != mp_const_none) {
        mp_buffer_info_t features = buffer(arguments[5], MP_BUFFER_WRITE);
        self->features = features.buf;
        self->feature_bytes = (uint32_t)features.len;
        run.observer = &observer;
    }
    return number(dhn_run(&self->model, &run, &self->trace));
}

static mp_int_t trace_field(const module_state_t *self, mp_int_t what, uint32_t i)
{
    const dhn_trace_t *const trace = &self->trace;
    const dhn_header_t *const bundle = dhn_bundle_header(&self->model);
    switch (what) {
    case TRACE_HOOKS: return trace->hook_count;
    case TRACE_EXIT: return trace->exit_hook;
    case TRACE_DECISION: return i < DHN_MAX_HOOKS ? trace->decision[i] : 0;
    case TRACE_SCORE: return i < DHN_MAX_HOOKS ? trace->score[i] : 0;
    case TRACE_REACHED: return (mp_int_t)self->feature_have;
    case TRACE_POINTS: return bundle == NULL ? 0 : bundle->operating_points;
    case TRACE_CHOICE: return dhn_choose_point(&self->model, (uint16_t)i);
    default: return bundle == NULL ? 0 : (mp_int_t)bundle->bundle_version;
    }
}

mp_obj_t module_trace(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    const module_state_t *self = state_of(arguments[0]);
    if (self == NULL || self->model.pack == NULL)
        return number(DHN_ERR_ARGUMENT);
    return number(trace_field(self, mp_obj_get_int(arguments[1]), (uint32_t)mp_obj_get_int(arguments[2])));
}

mp_obj_t module_point(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    const module_state_t *self = state_of(arguments[0]);
    uint32_t point = (uint32_t)mp_obj_get_int(arguments[1]);
    if (self == NULL || self->model.pack == NULL || point >= dhn_header(&self->model)->point_count)
        return number(DHN_ERR_ARGUMENT);
    return number((mp_int_t)dhn_feature_bytes(&self->model, (uint16_t)point));
}

mp_obj_t module_error(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    const char *text = dhn_error((dhn_status_t)mp_obj_get_int(arguments[0]));
    size_t bytes = 0;
    while (text[bytes] != 0)
        bytes++;
    return mp_obj_new_str(text, bytes);
}

mp_obj_t module_environment(size_t count, const mp_obj_t *arguments)
{
    (void)count;
    module_state_t *self = state_of(arguments[0]);
    int8_t *to = has_arena(self, arguments[1]) ? dhn_environment(&self->model) : NULL;
    mp_buffer_info_t from = buffer(arguments[2], MP_BUFFER_READ);
    return copied(to, from.buf, DHN_ENVIRONMENT, from.len);
}
