/* Runs single kernels on the core, case by case, with guards around everything that they may write. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <string.h>

#include "hal.h"
#include "rig.h"

/* Room for the buffers of one case with their guards. */
#ifndef RIG_ARENA_BYTES
#define RIG_ARENA_BYTES (192u * 1024u)
#endif
enum { GUARD = 64, RIG_UNWRITTEN = 0x33 };

static uint32_t arena[RIG_ARENA_BYTES / 4u];
static uint32_t used; /* bytes of the arena that this case takes */

typedef struct {
    int8_t *in0, *in1, *out;
    uint32_t *scratch;
} buffers_t;

static void nothing(const void *params, const dhn_io_t *io)
{
    (void)params;
    (void)io;
}

static void thousand(const void *params, const dhn_io_t *io)
{
    (void)params;
    (void)io;
    __asm volatile(".rept 1000\n nop\n .endr");
}

static void four_thousand(const void *params, const dhn_io_t *io)
{
    (void)params;
    (void)io;
    __asm volatile(".rept 4000\n nop\n .endr");
}

static void crash(const void *params, const dhn_io_t *io)
{
    (void)params;
    (void)io;
    __builtin_trap();
}

static dhn_kernel_fn *find(uint32_t id)
{
    static dhn_kernel_fn *const own[] = {
        [RIG_NOTHING] = nothing, [RIG_THOUSAND] = thousand, [RIG_FOUR_THOUSAND] = four_thousand, [RIG_CRASHES] = crash};
    if (id < sizeof own / sizeof own[0]) {
        return own[id];
    }
    for (uint16_t i = 0; i < rig_registry_count; i++) {
        if (rig_registry[i].id == id) {
            return rig_registry[i].run;
        }
    }
    return NULL;
}

/* `bytes` at `skew` behind a multiple of 4, and a guard behind them. The caller looks whether it fits. */
static int8_t *carve(uint32_t bytes, uint32_t skew)
{
    uint32_t const at = ((used + 3u) & ~3u) + skew;
    used = at + bytes + GUARD;
    return (int8_t *)arena + at;
}

static buffers_t lay_out(const rig_case_t *c)
{
    buffers_t b;
    used = GUARD;
    if (c->overlap != 0u) {
        uint32_t const reach = c->lead + ((c->overlap == 1u) ? c->in0_bytes : c->in1_bytes);
        b.out = carve((reach > c->out_bytes) ? reach : c->out_bytes, c->out_skew);
    } else {
        b.out = carve(c->out_bytes, c->out_skew);
    }
    b.in0 = (c->overlap == 1u) ? b.out + c->lead : carve(c->in0_bytes, c->in_skew);
    b.in1 = (c->overlap == 2u) ? b.out + c->lead : carve(c->in1_bytes, c->in_skew);
    used = ((used + 7u) & ~7u) + 4u; /* scratch is promised at multiples of 4, not of 8 */
    b.scratch = (void *)carve(c->scratch_bytes, 0);
    return b;
}

/* Copies write with gaps: what they leave alone is the same in every run. */
static void fill(const rig_case_t *c, const buffers_t *b, const uint8_t *base, uint8_t garbage)
{
    memset(arena, garbage, used);
    memset(b->out, RIG_UNWRITTEN, c->out_bytes);
    memcpy(b->in0, base + c->in0, c->in0_bytes);
    memcpy(b->in1, base + c->in1, c->in1_bytes);
}

/* Whether [from, to) still holds what fill left there. */
static bool untouched(const uint8_t *from, const uint8_t *to, uint8_t garbage)
{
    while (from < to && *from == garbage) {
        from++;
    }
    return from == to;
}

static bool guard_behind(const void *end, uint8_t garbage)
{
    const uint8_t *const e = end;
    return untouched(e, e + GUARD, garbage);
}

static uint32_t inspect(const rig_case_t *c, const buffers_t *b, const uint8_t *base, uint8_t garbage)
{
    const int8_t *const in0_end = b->in0 + c->in0_bytes;
    const int8_t *const in1_end = b->in1 + c->in1_bytes;
    const int8_t *const over_end = (c->overlap == 1u) ? in0_end : (c->overlap == 2u) ? in1_end : b->out;
    const int8_t *out_end = b->out + c->out_bytes;
    out_end = (over_end > out_end) ? over_end : out_end;
    bool guards = untouched((uint8_t *)arena, (uint8_t *)arena + GUARD, garbage) && guard_behind(out_end, garbage);
    bool inputs = true;
    if (c->overlap != 1u) {
        guards = guards && guard_behind(in0_end, garbage);
        inputs = memcmp(b->in0, base + c->in0, c->in0_bytes) == 0;
    }
    if (c->overlap != 2u) {
        guards = guards && guard_behind(in1_end, garbage);
        inputs = inputs && memcmp(b->in1, base + c->in1, c->in1_bytes) == 0;
    }
    const uint8_t *const scratch = (const void *)b->scratch;
    guards = guards && untouched(scratch - GUARD / 2, scratch, garbage);
    guards = guards && guard_behind(scratch + c->scratch_bytes, garbage);
    return (guards ? 0u : RIG_GUARD) | (inputs ? 0u : RIG_INPUT);
}

static uint32_t sum(const uint8_t *from, uint32_t bytes)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        total = total * 31u + from[i];
    }
    return total;
}

/* Ticks may be worth tens of instructions, so that short kernels must run often. */
static uint32_t runs_for(uint32_t ticks)
{
    return (ticks < 500u) ? 40 : (ticks < 5000u) ? 8 : 1;
}

/* Ticks of `runs` calls, each on fresh buffers. */
static uint32_t ticks_of(const rig_case_t *c, const buffers_t *b, const uint8_t *base, dhn_kernel_fn *run,
                         uint32_t runs)
{
    dhn_io_t const io = {b->in0, b->in1, b->out, b->scratch, base + c->consts};
    uint32_t const start = hal_ticks();
    for (uint32_t k = 0; k < runs; k++) {
        fill(c, b, base, 0xA5);
        run(base + c->params, &io);
    }
    return hal_ticks() - start;
}

/* One run that is looked at, with this garbage around. Returns a sum over the output. */
static uint32_t checked(const rig_case_t *c, const buffers_t *b, const uint8_t *base, dhn_kernel_fn *run,
                        uint8_t garbage, rig_result_t *r)
{
    dhn_io_t const io = {b->in0, b->in1, b->out, b->scratch, base + c->consts};
    fill(c, b, base, garbage);
    uint32_t const start = hal_ticks();
    run(base + c->params, &io);
    r->ticks = hal_ticks() - start;
    r->faults |= inspect(c, b, base, garbage);
    return sum((const uint8_t *)b->out, c->out_bytes);
}

static void run_case(const rig_case_t *c, const uint8_t *base, bool count, rig_result_t *r, const int8_t **out)
{
    dhn_kernel_fn *const run = find(c->kernel);
    buffers_t const b = lay_out(c);
    if (run == NULL || used > sizeof arena) {
        r->faults = (run == NULL) ? RIG_UNKNOWN : RIG_TOO_BIG;
        return;
    }
    uint32_t const consts = sum(base + c->consts, c->consts_bytes);
    uint32_t const first = checked(c, &b, base, run, 0x5A, r);
    uint32_t const second = checked(c, &b, base, run, 0xA5, r);
    r->faults |= (first != second) ? RIG_UNSTABLE : 0u;
    r->runs = 1;
    if (count) {
        /* The same loop around nothing costs the same but for the kernel: the difference is exact to a tick. */
        r->runs = runs_for(r->ticks);
        uint32_t const around = ticks_of(c, &b, base, nothing, r->runs);
        uint32_t const with = ticks_of(c, &b, base, run, r->runs);
        r->ticks = (with > around) ? with - around : 0u;
    }
    r->faults |= (sum(base + c->consts, c->consts_bytes) != consts) ? RIG_CONSTS : 0u;
    r->out_bytes = c->out_bytes;
    *out = b.out;
}

static void send(const rig_result_t *r, const int8_t *out)
{
    static const uint8_t padding[4];
    hal_write((const uint8_t *)r, sizeof *r);
    hal_write((const uint8_t *)out, r->out_bytes);
    hal_write(padding, -r->out_bytes & 3u);
}

int main(int argc, char **argv)
{
    hal_init(argc, argv);
    const uint8_t *const base = hal_flash();
    const rig_header_t *const header = (const void *)base;
    const rig_case_t *const cases = (const void *)(base + header->cases);
    uint32_t const count = (header->magic == RIG_MAGIC) ? header->count : 0u;
    rig_result_t const start = {RIG_START, 0, 0, 0, 0, 0};
    send(&start, NULL);
    for (uint32_t i = 0; i < count; i++) {
        rig_result_t result = {RIG_RESULT, i, 0, 0, 0, 0};
        const int8_t *out = NULL;
        run_case(&cases[i], base, header->count_exactly != 0u, &result, &out);
        send(&result, out);
    }
    rig_result_t const end = {RIG_END, count, 0, 0, 0, 0};
    send(&end, NULL);
    for (;;) {
        hal_idle();
    }
}
