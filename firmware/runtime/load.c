/* Loads and checks main packs and hook bundles: after this nothing needs to be checked again. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "internal.h"

static bool aligned(const void *p)
{
    return ((uintptr_t)p & 3u) == 0u;
}

/* A table of `count` records at `offset`, aligned and behind the header. Counts are sums of 16-bit fields. */
static bool table_ok(const dhn_header_t *h, uint32_t offset, uint32_t count, uint32_t record)
{
    return count == 0u || ((offset & 3u) == 0u && offset >= sizeof *h && dhn_inside(offset, count * record, h->bytes));
}

/* Tables of the header whose length is one 16-bit field: byte offsets of both, and a record's bytes. */
static const struct {
    uint8_t at, count, record;
} tables[] = {
    {offsetof(dhn_header_t, kernels), offsetof(dhn_header_t, kernel_count), sizeof(uint16_t)},
    {offsetof(dhn_header_t, points), offsetof(dhn_header_t, point_count), sizeof(dhn_point_t)},
    {offsetof(dhn_header_t, hooks), offsetof(dhn_header_t, hook_count), sizeof(dhn_hook_t)},
    {offsetof(dhn_header_t, policies), offsetof(dhn_header_t, policy_count), sizeof(dhn_policy_t)},
    {offsetof(dhn_header_t, ranges), offsetof(dhn_header_t, range_count), sizeof(dhn_range_t)},
};

static bool tables_ok(const dhn_header_t *h)
{
    const uint8_t *const base = (const void *)h;
    for (uint32_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        const uint32_t *const at = (const void *)(base + tables[i].at);
        const uint16_t *const count = (const void *)(base + tables[i].count);
        if (!table_ok(h, *at, *count, tables[i].record)) {
            return false;
        }
    }
    return table_ok(h, h->io, (uint32_t)h->input_count + h->output_count, sizeof(dhn_io_tensor_t)) &&
           table_ok(h, h->program, h->program_bytes, 1u) && (h->program_bytes & 3u) == 0u;
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
    if (h->bytes > bytes || h->bytes < sizeof *h || (h->bytes & (DHN_REF_CONST | 3u))) {
        return DHN_ERR_TRUNCATED;
    }
    if (dhn_crc32(0, (const uint8_t *)pack + 16, h->bytes - 16u) != h->crc32) {
        return DHN_ERR_CRC;
    }
    return (tables_ok(h) && h->arena_bytes < DHN_REF_CONST) ? DHN_OK : DHN_ERR_BOUNDS;
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

/* The space of a pack whose header is checked, with an entry of the registry for each kernel that it names. */
static dhn_status_t open_space(dhn_space_t *s, const dhn_header_t *h, const dhn_kernel_t *registry, uint32_t count)
{
    s->pack = (const uint8_t *)h;
    s->pack_bytes = h->bytes;
    s->arena_bytes = h->arena_bytes;
    s->kernel_count = h->kernel_count;
    s->kernel_ids = (const void *)(s->pack + h->kernels);
    if (s->kernel_count > DHN_MAX_KERNELS) {
        return DHN_ERR_KERNEL;
    }
    for (uint32_t i = 0; i < s->kernel_count; i++) {
        uint32_t k = 0;
        while (k < count && registry[k].id != s->kernel_ids[i]) {
            k++;
        }
        if (k == count) {
            return DHN_ERR_KERNEL;
        }
        s->entry[i] = &registry[k];
    }
    return DHN_OK;
}

DHN_APART static void take_kernels(const dhn_space_t *s, dhn_kernel_fn **to)
{
    for (uint32_t i = 0; i < s->kernel_count; i++) {
        to[i] = s->entry[i]->run;
    }
}

DHN_APART static const dhn_point_t *points_of(const dhn_space_t *s, const dhn_header_t *h)
{
    return (const void *)(s->pack + h->points);
}

/* Instructions follow one another up to the END, each in its place and sane. Sets `end` to that END's offset. */
static dhn_status_t check_main_program(const dhn_header_t *h, const dhn_space_t *s, uint32_t *end)
{
    const dhn_point_t *const points = points_of(s, h);
    uint32_t point = 0;
    for (uint32_t at = h->program;;) {
        const dhn_instr_t *const instr = dhn_instr_at(s, at);
        if (instr == NULL || at + instr->bytes > h->program + h->program_bytes) {
            return DHN_ERR_PROGRAM;
        }
        if (instr->group != 0u && instr->group >= h->group_count) {
            return DHN_ERR_PROGRAM;
        }
        if (instr->kind == DHN_INSTR_RUN) {
            uint32_t written;
            dhn_status_t const status = dhn_verify_run(s, instr, &written);
            if (status != DHN_OK) {
                return status;
            }
        } else if (instr->kind == DHN_INSTR_POINT) {
            if (instr->index != point || point >= h->point_count || points[point].instr != at) {
                return DHN_ERR_PROGRAM;
            }
            point++;
        } else if (instr->kind != DHN_INSTR_END) {
            return DHN_ERR_PROGRAM;
        } else if (instr->group == 0u) {
            *end = at;
            return (point == h->point_count) ? DHN_OK : DHN_ERR_PROGRAM;
        }
        at += instr->bytes;
    }
}

/* Whether a skip goes forward to an instruction's start. The program is checked up to its END at `end`. */
static bool lands(const dhn_space_t *s, const dhn_point_t *p, uint32_t end)
{
    uint32_t at = p->instr;
    do {
        at += ((const dhn_instr_t *)(const void *)(s->pack + at))->bytes;
    } while (at < p->skip_to && at < end);
    return at == p->skip_to || p->skip_to == 0u;
}

static dhn_status_t check_points(const dhn_header_t *h, const dhn_space_t *s, uint32_t end)
{
    const dhn_point_t *const points = points_of(s, h);
    for (const dhn_point_t *p = points; p != points + h->point_count; p++) {
        uint32_t const tap = dhn_volume(p->tap_h, p->tap_w, p->tap_c);
        if (tap == 0u || p->window_h == 0u || p->window_w == 0u || p->window_h > p->tap_h || p->window_w > p->tap_w) {
            return DHN_ERR_PARAMS;
        }
        if (!lands(s, p, end)) {
            return DHN_ERR_PROGRAM;
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

static dhn_status_t check_io(const dhn_header_t *h)
{
    const dhn_io_tensor_t *const io = (const void *)((const uint8_t *)h + h->io);
    uint32_t const count = (uint32_t)h->input_count + h->output_count;
    for (uint32_t i = 0; i < count; i++) {
        if (io[i].bytes != dhn_volume(io[i].h, io[i].w, io[i].c) ||
            !dhn_inside(io[i].ref, io[i].bytes, h->arena_bytes)) {
            return DHN_ERR_BOUNDS;
        }
    }
    return (h->input_count != 0u && h->output_count != 0u) ? DHN_OK : DHN_ERR_PROGRAM;
}

static dhn_status_t check_main(const dhn_header_t *h, const dhn_space_t *s)
{
    uint32_t end;
    dhn_status_t status = check_main_program(h, s, &end);
    if (status == DHN_OK) {
        status = check_points(h, s, end);
    }
    if (status == DHN_OK) {
        status = check_io(h);
    }
    if (status != DHN_OK) {
        return status;
    }
    if (!dhn_inside(h->keep, h->keep_bytes, h->arena_bytes)) {
        return DHN_ERR_BOUNDS;
    }
    return (h->group_count > DHN_MAX_GROUPS) ? DHN_ERR_PROGRAM : DHN_OK;
}

dhn_status_t dhn_load(dhn_model_t *self, const void *pack, uint32_t bytes, void *arena, uint32_t arena_bytes,
                      const dhn_kernel_t *registry, uint16_t registry_count)
{
    const dhn_header_t *const h = pack;
    dhn_space_t space;
    dhn_status_t status = check_header(pack, bytes, DHN_KIND_MAIN);
    if (status == DHN_OK) {
        status = open_space(&space, h, registry, registry_count);
    }
    if (status == DHN_OK) {
        status = check_main(h, &space);
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
    memset(self, 0, sizeof *self);
    self->pack = pack;
    self->arena = arena;
    self->registry = registry;
    self->registry_count = registry_count;
    take_kernels(&space, self->kernel);
    return DHN_OK;
}

/* Whether bytes at `at` lie between `base` and `base` + `size`, which the arena holds: what lies below `base` wraps round
 * to a distance that no arena has. */
static bool within(uint32_t base, uint32_t size, uint32_t at, uint32_t bytes)
{
    return dhn_inside(at - base, bytes, size);
}

/* Bytes that hooks keep from run to run, behind the environment. */
static bool in_keep(const dhn_header_t *main, uint32_t at, uint32_t bytes)
{
    return main->keep_bytes >= DHN_ENVIRONMENT &&
           within(main->keep + DHN_ENVIRONMENT, main->keep_bytes - DHN_ENVIRONMENT, at, bytes);
}

/* Where a hook may write: the point's scratch, the hooks' own bytes, and what the action is for. */
static bool may_write(const dhn_header_t *main, const dhn_point_t *p, const dhn_hook_t *hook, uint32_t out,
                      uint32_t bytes)
{
    return within(p->scratch, p->scratch_bytes, out, bytes) || in_keep(main, out, bytes) ||
           (hook->action == DHN_ACTION_SKIP && within(p->skip_dst, p->skip_bytes, out, bytes));
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
        uint32_t written;
        dhn_status_t const status = dhn_verify_run(s, instr, &written);
        if (status != DHN_OK) {
            return status;
        }
        if (!may_write(main, point, hook, instr->out, written) ||
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

DHN_APART static dhn_status_t check_hook(const dhn_header_t *main, const dhn_header_t *h, const dhn_space_t *s,
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
    dhn_space_t space;
    status = open_space(&space, h, self->registry, self->registry_count);
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
    take_kernels(&space, self->hook_kernel);
    self->bundle = bundle;
    self->reference = 0u;
    return DHN_OK;
}

void dhn_detach(dhn_model_t *self)
{
    self->bundle = NULL;
    self->reference = 0u;
}
