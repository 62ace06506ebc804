/* Loads and checks main packs and hook bundles: after this nothing needs to be checked again. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "internal.h"

static bool aligned(const void *p)
{
    return ((uintptr_t)p & 3u) == 0u;
}

/* A table of `count` records at `offset`, aligned and behind the header. */
static bool table_ok(const dhn_header_t *h, uint32_t offset, uint32_t count, uint32_t record)
{
    if (count == 0u) {
        return true;
    }
    return (offset & 3u) == 0u && offset >= sizeof *h && dhn_inside(offset, (uint64_t)count * record, h->bytes);
}

static dhn_status_t check_header(const void *pack, uint32_t bytes, uint8_t kind)
{
    const dhn_header_t *const h = pack;
    if (!aligned(pack)) {
        return DHN_ERR_ALIGN;
    }
    if (bytes < sizeof *h) {
        return DHN_ERR_TRUNCATED;
    }
    if (h->magic != DHN_MAGIC) {
        return DHN_ERR_MAGIC;
    }
    if (h->version != DHN_FORMAT_VERSION) {
        return DHN_ERR_VERSION;
    }
    if (h->kind != kind) {
        return DHN_ERR_KIND;
    }
    if (h->bytes > bytes || h->bytes < sizeof *h || (h->bytes & 3u)) {
        return DHN_ERR_TRUNCATED;
    }
    if (dhn_crc32(0, (const uint8_t *)pack + 16, h->bytes - 16u) != h->crc32) {
        return DHN_ERR_CRC;
    }
    bool const tables = table_ok(h, h->kernels, h->kernel_count, sizeof(uint16_t)) &&
                        table_ok(h, h->io, (uint32_t)h->input_count + h->output_count, sizeof(dhn_io_tensor_t)) &&
                        table_ok(h, h->program, h->program_bytes / 4u, 4u) &&
                        table_ok(h, h->points, h->point_count, sizeof(dhn_point_t)) &&
                        table_ok(h, h->hooks, h->hook_count, sizeof(dhn_hook_t)) &&
                        table_ok(h, h->policies, h->policy_count, sizeof(dhn_policy_t)) &&
                        table_ok(h, h->ranges, h->range_count, sizeof(dhn_range_t));
    return (tables && (h->program_bytes & 3u) == 0u) ? DHN_OK : DHN_ERR_BOUNDS;
}

static dhn_space_t space_of(const dhn_header_t *h)
{
    dhn_space_t s;
    memset(&s, 0, sizeof s);
    s.pack = (const uint8_t *)h;
    s.pack_bytes = h->bytes;
    s.arena_bytes = h->arena_bytes;
    s.kernel_count = h->kernel_count;
    s.kernel_ids = (const void *)(s.pack + h->kernels);
    return s;
}

const dhn_instr_t *dhn_instr_at(const dhn_space_t *space, uint32_t offset)
{
    if ((offset & 3u) || offset < sizeof(dhn_header_t) || !dhn_inside(offset, sizeof(dhn_instr_t), space->pack_bytes)) {
        return NULL;
    }
    const dhn_instr_t *const instr = (const void *)(space->pack + offset);
    bool const whole = instr->bytes >= sizeof *instr && (instr->bytes & 3u) == 0u &&
                       dhn_inside(offset, instr->bytes, space->pack_bytes);
    return whole ? instr : NULL;
}

static dhn_status_t find_kernels(dhn_space_t *s, const dhn_kernel_t *registry, uint16_t count, dhn_kernel_fn **found)
{
    if (s->kernel_count > DHN_MAX_KERNELS) {
        return DHN_ERR_KERNEL;
    }
    for (uint16_t i = 0; i < s->kernel_count; i++) {
        found[i] = NULL;
        for (uint16_t k = 0; k < count; k++) {
            if (registry[k].id == s->kernel_ids[i]) {
                found[i] = registry[k].run;
                s->entry[i] = &registry[k];
            }
        }
        if (found[i] == NULL) {
            return DHN_ERR_KERNEL;
        }
    }
    return DHN_OK;
}

/* Every point has its instruction at its place and jumps forward to a later one. */
static dhn_status_t check_main_program(const dhn_header_t *h, const dhn_space_t *s, const dhn_point_t *points)
{
    uint32_t at = h->program;
    uint32_t const end = h->program + h->program_bytes;
    uint16_t point = 0;
    for (;;) {
        const dhn_instr_t *const instr = dhn_instr_at(s, at);
        if (instr == NULL || at + instr->bytes > end) {
            return DHN_ERR_PROGRAM;
        }
        for (uint16_t p = 0; p < point; p++) { /* a landing place is an instruction's start */
            if (points[p].skip_to > at && points[p].skip_to < at + instr->bytes) {
                return DHN_ERR_PROGRAM;
            }
        }
        if (instr->group != 0u && instr->group >= h->group_count) {
            return DHN_ERR_PROGRAM;
        }
        if (instr->kind == DHN_INSTR_END && instr->group == 0u) {
            break;
        }
        if (instr->kind == DHN_INSTR_POINT) {
            if (instr->index != point || point >= h->point_count || points[point].instr != at) {
                return DHN_ERR_PROGRAM;
            }
            point++;
        } else if (instr->kind == DHN_INSTR_RUN) {
            dhn_status_t const status = dhn_verify_run(s, instr);
            if (status != DHN_OK) {
                return status;
            }
        } else if (instr->kind != DHN_INSTR_END) {
            return DHN_ERR_PROGRAM;
        }
        at += instr->bytes;
    }
    for (uint16_t p = 0; p < point; p++) {
        if (points[p].skip_to != 0u && (points[p].skip_to <= points[p].instr || points[p].skip_to > at)) {
            return DHN_ERR_PROGRAM;
        }
    }
    return (point == h->point_count) ? DHN_OK : DHN_ERR_PROGRAM;
}

static dhn_status_t check_points(const dhn_header_t *h, const dhn_point_t *points)
{
    for (uint16_t i = 0; i < h->point_count; i++) {
        const dhn_point_t *const p = &points[i];
        uint64_t const tap = (uint64_t)p->tap_h * p->tap_w * p->tap_c;
        if (tap == 0u || p->window_h == 0u || p->window_w == 0u || p->window_h > p->tap_h || p->window_w > p->tap_w) {
            return DHN_ERR_PARAMS;
        }
        if ((p->scratch & 3u) || !dhn_inside(p->tap, tap, h->arena_bytes) ||
            !dhn_inside(p->scratch, p->scratch_bytes, h->arena_bytes) ||
            !dhn_inside(p->skip_src, p->skip_bytes, h->arena_bytes) ||
            !dhn_inside(p->skip_dst, p->skip_bytes, h->arena_bytes)) {
            return DHN_ERR_BOUNDS;
        }
    }
    return DHN_OK;
}

static dhn_status_t check_io(const dhn_header_t *h, const dhn_io_tensor_t *io)
{
    uint32_t const count = (uint32_t)h->input_count + h->output_count;
    for (uint32_t i = 0; i < count; i++) {
        if (io[i].bytes != (uint64_t)io[i].h * io[i].w * io[i].c ||
            !dhn_inside(io[i].ref, io[i].bytes, h->arena_bytes)) {
            return DHN_ERR_BOUNDS;
        }
    }
    return (h->input_count != 0u && h->output_count != 0u) ? DHN_OK : DHN_ERR_PROGRAM;
}

dhn_status_t dhn_load(dhn_model_t *self, const void *pack, uint32_t bytes, void *arena, uint32_t arena_bytes,
                      const dhn_kernel_t *registry, uint16_t registry_count)
{
    dhn_status_t status = check_header(pack, bytes, DHN_KIND_MAIN);
    if (status != DHN_OK) {
        return status;
    }
    const dhn_header_t *const h = pack;
    dhn_space_t space = space_of(h);
    const dhn_point_t *const points = (const void *)(space.pack + h->points);
    dhn_model_t model;
    memset(&model, 0, sizeof model);
    status = find_kernels(&space, registry, registry_count, model.kernel);
    if (status == DHN_OK) {
        status = check_main_program(h, &space, points);
    }
    if (status == DHN_OK) {
        status = check_points(h, points);
    }
    if (status == DHN_OK) {
        status = check_io(h, (const void *)(space.pack + h->io));
    }
    if (status == DHN_OK && !dhn_inside(h->keep, h->keep_bytes, h->arena_bytes)) {
        status = DHN_ERR_BOUNDS;
    }
    if (status == DHN_OK && h->group_count > DHN_MAX_GROUPS) {
        status = DHN_ERR_PROGRAM;
    }
    if (status != DHN_OK) {
        return status;
    }
    if (!aligned(arena)) {
        return DHN_ERR_ALIGN;
    }
    if (arena_bytes < h->arena_bytes) {
        return DHN_ERR_ARENA;
    }
    model.pack = pack;
    model.arena = arena;
    model.registry = registry;
    model.registry_count = registry_count;
    *self = model;
    return DHN_OK;
}

/* Bytes that hooks keep from run to run, behind the environment. */
static bool in_keep(const dhn_header_t *main, uint32_t at, uint64_t bytes)
{
    return main->keep_bytes >= DHN_ENVIRONMENT && at >= main->keep + DHN_ENVIRONMENT &&
           dhn_inside(at - main->keep, bytes, main->keep_bytes);
}

/* Where a hook may write: the point's scratch, the hooks' own bytes, and what the action is for. */
static bool may_write(const dhn_header_t *main, const dhn_point_t *p, const dhn_hook_t *hook, uint32_t out,
                      uint64_t bytes)
{
    if (out >= p->scratch && dhn_inside(out - p->scratch, bytes, p->scratch_bytes)) {
        return true;
    }
    if (in_keep(main, out, bytes)) {
        return true;
    }
    return hook->action == DHN_ACTION_SKIP && out >= p->skip_dst && dhn_inside(out - p->skip_dst, bytes, p->skip_bytes);
}

static dhn_status_t check_hook_program(const dhn_header_t *main, const dhn_space_t *s, const dhn_point_t *point,
                                       const dhn_hook_t *hook, uint32_t at)
{
    for (;;) {
        const dhn_instr_t *const instr = dhn_instr_at(s, at);
        if (instr == NULL) {
            return DHN_ERR_PROGRAM;
        }
        if (instr->kind == DHN_INSTR_END) {
            return DHN_OK;
        }
        if (instr->kind != DHN_INSTR_RUN) {
            return DHN_ERR_PROGRAM;
        }
        dhn_status_t const status = dhn_verify_run(s, instr);
        if (status != DHN_OK) {
            return status;
        }
        if (!may_write(main, point, hook, instr->out, dhn_bytes_written(s, instr)) ||
            (instr->scratch_bytes != 0u && !may_write(main, point, hook, instr->scratch, instr->scratch_bytes))) {
            return DHN_ERR_HOOK;
        }
        at += instr->bytes;
    }
}

/* Whether the hook has what its action needs. */
static bool action_ok(const dhn_header_t *main, const dhn_point_t *point, const dhn_hook_t *hook)
{
    const dhn_io_tensor_t *const outputs =
        (const dhn_io_tensor_t *)(const void *)((const uint8_t *)main + main->io) + main->input_count;
    bool const answers = main->output_count == 1u && hook->answer_bytes == outputs[0].bytes &&
                         dhn_inside(hook->answer, hook->answer_bytes, main->arena_bytes);
    bool const group = hook->group != 0u && hook->group < main->group_count;
    switch (hook->action) {
    case DHN_ACTION_EXIT:
    case DHN_ACTION_BLEND: return answers;
    case DHN_ACTION_SKIP: return point->skip_to != 0u;
    case DHN_ACTION_SELECT: return group;
    case DHN_ACTION_REUSE: return answers && in_keep(main, hook->answer, hook->answer_bytes);
    case DHN_ACTION_MASK:
        if ((hook->flags & DHN_MASK_GROUPS) != 0u) {
            return group && hook->variant < UINT8_MAX && hook->score_count <= (uint32_t)main->group_count - hook->group;
        }
        return group && hook->answer_bytes == hook->score_count && in_keep(main, hook->answer, hook->answer_bytes);
    default: return false;
    }
}

static dhn_status_t check_hook(const dhn_header_t *main, const dhn_header_t *h, const dhn_space_t *s,
                               const dhn_point_t *points, const dhn_hook_t *hook)
{
    if (hook->point >= main->point_count || hook->decide > DHN_DECIDE_MARGIN || hook->score_count == 0u) {
        return DHN_ERR_HOOK;
    }
    const dhn_point_t *const point = &points[hook->point];
    if (!dhn_inside(hook->score, hook->score_count, main->arena_bytes) ||
        !table_ok(h, hook->thresholds, h->operating_points, sizeof(int32_t))) {
        return DHN_ERR_BOUNDS;
    }
    dhn_status_t status = action_ok(main, point, hook) ? DHN_OK : DHN_ERR_HOOK;
    uint32_t const programs[] = {hook->program, hook->then, hook->otherwise};
    for (uint32_t i = 0; i < 3u && status == DHN_OK; i++) {
        if (i == 0u || programs[i] != 0u) {
            status = check_hook_program(main, s, point, hook, programs[i]);
        }
    }
    return status;
}

/* Every row of the policy table names a channel and an operating point that exist. */
static dhn_status_t check_policies(const dhn_header_t *h)
{
    const dhn_policy_t *const rows = (const void *)((const uint8_t *)h + h->policies);
    for (uint16_t i = 0; i < h->policy_count; i++) {
        if (rows[i].channel >= DHN_ENVIRONMENT || rows[i].point >= h->operating_points) {
            return DHN_ERR_HOOK;
        }
    }
    return DHN_OK;
}

dhn_status_t dhn_attach(dhn_model_t *self, const void *bundle, uint32_t bytes)
{
    const dhn_header_t *const main = dhn_header(self);
    dhn_status_t status = check_header(bundle, bytes, DHN_KIND_HOOKS);
    if (status != DHN_OK) {
        return status;
    }
    const dhn_header_t *const h = bundle;
    if (memcmp(h->bound_to, main->hash, sizeof main->hash) != 0 || h->arena_bytes != main->arena_bytes) {
        return DHN_ERR_BINDING;
    }
    if (h->hook_count > DHN_MAX_HOOKS || h->operating_points == 0u) {
        return DHN_ERR_HOOK;
    }
    dhn_space_t space = space_of(h);
    dhn_kernel_fn *found[DHN_MAX_KERNELS];
    status = find_kernels(&space, self->registry, self->registry_count, found);
    if (status == DHN_OK) {
        status = check_policies(h);
    }
    const dhn_hook_t *const hooks = (const void *)(space.pack + h->hooks);
    for (uint16_t i = 0; i < h->hook_count && status == DHN_OK; i++) {
        bool const in_order = i == 0u || hooks[i - 1u].point <= hooks[i].point;
        status = in_order ? check_hook(main, h, &space, dhn_points(self), &hooks[i]) : DHN_ERR_HOOK;
    }
    if (status != DHN_OK) {
        return status;
    }
    memcpy(self->hook_kernel, found, space.kernel_count * sizeof(dhn_kernel_fn *));
    self->bundle = bundle;
    self->reference = 0u;
    return DHN_OK;
}

void dhn_detach(dhn_model_t *self)
{
    self->bundle = NULL;
    self->reference = 0u;
}
