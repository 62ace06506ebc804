/* Cuts the power at every flash unit of every life that hook slots can have, and checks what the next start finds. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dhn.h"
#include "hal.h"
#include "slots.h"

/* -- A flash that can lose power. Small pages make every cut affordable; a bundle spans three of them. */

#ifdef WRITE_ONCE /* a slot is one page, and a unit that is not erased stays as it is: what the port to STM32 H7 makes of it */
enum { PAGE = 2048, FLASH = 2 * PAGE, BUNDLE = 1001, NEVER = -1 };
#else
enum { PAGE = 512, FLASH = 8 * PAGE, BUNDLE = 1001, NEVER = -1 };
#endif

/* What a cut leaves of the unit or page it hits. */
typedef enum { CUT_BEFORE, CUT_TORN, CUT_AFTER } cut_t;

static uint8_t flash[FLASH];
static long operations, cut_at = NEVER;
static cut_t cut_how;
static jmp_buf power_off;

/* Park and Miller's minimal standard generator: repeatable on every machine. */
static uint64_t lots = 1;
static uint8_t lot(void)
{
    lots = lots * 48271 % 2147483647;
    return (uint8_t)(lots >> 8);
}

/* Before: true means "do it now"; a torn operation is done by `tear`. */
static int cut_here(void)
{
    return cut_at != NEVER && operations == cut_at;
}

/* Which tear: the first ones are random per byte; each later one completes one window of sixteenths of a page (there
 * are 136) and leaves the rest as it was. */
static int tear_round;
static bool tore_a_page;
enum { RANDOM_ROUNDS = 8, ROUNDS = RANDOM_ROUNDS + 136 };

static bool in_window(uint32_t at, uint32_t bytes)
{
    int number = tear_round - RANDOM_ROUNDS;
    for (uint32_t from = 0; from < 16; from++)
        for (uint32_t till = from + 1; till <= 16; till++)
            if (number-- == 0)
                return at >= from * bytes / 16 && at < till * bytes / 16;
    return false;
}

static void tear(uint8_t *at, const uint8_t *to, uint32_t bytes)
{
    tore_a_page = bytes == PAGE;
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t change = (uint8_t)(at[i] ^ to[i]);
        uint8_t some = lot() % 3 == 0 ? 0xFF : lot() % 2 == 0 ? 0 : lot();
        uint8_t done = tear_round < RANDOM_ROUNDS ? some : in_window(i, bytes) ? 0xFF : 0;
        at[i] = (uint8_t)(at[i] ^ (change & done));
    }
}

static void operate(uint8_t *at, const uint8_t *to, uint32_t bytes)
{
    int cut = cut_here();
    operations++;
    if (cut && cut_how == CUT_TORN)
        tear(at, to, bytes);
    else if (!cut || cut_how == CUT_AFTER)
        memcpy(at, to, bytes);
    if (cut)
        longjmp(power_off, 1);
}

uint32_t hal_flash_bytes(void)
{
    return FLASH;
}

uint32_t hal_flash_page_bytes(void)
{
    return PAGE;
}

const uint8_t *hal_flash(void)
{
    return flash;
}

int hal_flash_erase(uint32_t page_offset)
{
    uint8_t ones[PAGE];
    memset(ones, 0xFF, sizeof ones);
    operate(flash + page_offset, ones, PAGE);
    return 0;
}

static bool all(const uint8_t *unit, uint8_t value)
{
    for (uint32_t i = 0; i < HAL_FLASH_UNIT; i++)
        if (unit[i] != value)
            return false;
    return true;
}

static void fail(const char *what);

int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes)
{
    const uint8_t *source = from;
    for (uint32_t at = 0; at < bytes; at += HAL_FLASH_UNIT) {
        uint8_t next[HAL_FLASH_UNIT];
        if (!all(flash + offset + at, 0xFF) && !all(source + at, 0)) /* what flash with error correction forbids */
            fail("a unit is programmed twice, and not to zeros");
#ifdef WRITE_ONCE
        if (!all(flash + offset + at, 0xFF))
            continue;
#endif
        for (uint32_t i = 0; i < HAL_FLASH_UNIT; i++)
            next[i] = flash[offset + at + i] & source[at + i];
        operate(flash + offset + at, next, HAL_FLASH_UNIT);
    }
    return 0;
}

/* -- Bundles that say which version they are in every byte */

static const uint8_t model[SLOT_HASH] = {'m'};
static uint32_t attached; /* version, 0: none */
static slots_t slots;

static uint8_t byte_of(uint32_t version, uint32_t i)
{
    return (uint8_t)(version * 131 + i * 7 + (i >> 8));
}

static void fail(const char *what)
{
    (void)printf("FAILED: %s (operation %ld, cut %d, attached %u)\n", what, cut_at, (int)cut_how, attached);
    exit(1);
}

/* Believes what the first byte says, as the runtime believes a header; `check` looks at the rest. */
static bool attach(void *context, const void *bundle, uint32_t bytes, bool really)
{
    const uint8_t *data = bundle;
    (void)context;
    uint32_t version = 0;
    for (uint32_t v = 1; bundle != NULL && v < 10; v++)
        if (data[0] == byte_of(v, 0))
            version = v;
    if (bundle != NULL && (version == 0 || bytes != BUNDLE))
        return false;
    if (!really)
        return true;
    attached = version;
    if (bundle == NULL)
        return true;
    slot_info_t info;
    slot_state_t state = slots_state(&slots, data < flash + FLASH / 2 ? 0 : 1, &info);
    if (state != SLOT_TRIED && state != SLOT_CONFIRMED)
        fail("a bundle runs before its trial is marked");
    return true;
}

static void start(void)
{
    attached = 0;
    slots_start(&slots, model, attach, NULL);
}

static void must(slot_status_t status, const char *what)
{
    if (status != SLOT_OK)
        fail(what);
}

static void push(uint32_t version)
{
    uint8_t data[BUNDLE];
    slot_info_t info = {.version = version, .bytes = BUNDLE};
    for (uint32_t i = 0; i < BUNDLE; i++)
        data[i] = byte_of(version, i);
    info.crc32 = dhn_crc32(0, data, BUNDLE);
    memcpy(info.model_hash, model, SLOT_HASH);
    uint32_t next = 0;
    must(slots_begin(&slots, &info, &next), "begin");
    while (next < BUNDLE) {
        uint32_t part = BUNDLE - next < 96 ? BUNDLE - next : 96;
        must(slots_write(&slots, next, data + next, part), "write");
        next += part;
    }
    must(slots_finish(&slots), "finish");
}

/* -- Lives. `floor_version` is the last one that the board promised to keep, `newest` the one being introduced. */

static uint32_t floor_version, newest;

static void introduce(uint32_t version)
{
    newest = version;
    push(version);
    must(slots_trial(&slots), "trial");
    start();
    if (attached != version || !slots.trial)
        fail("a bundle on trial does not run");
}

static void install(uint32_t version)
{
    introduce(version);
    must(slots_confirm(&slots), "confirm");
    floor_version = version;
    start();
    if (attached != version)
        fail("a confirmed bundle does not run");
}

static void life_first(void)
{
    install(1);
}

static void life_second(void)
{
    install(2);
}

static void life_third(void)
{
    install(3);
}

static void life_third_unconfirmed(void)
{
    introduce(3);
    start();
    if (attached != floor_version || slots.reverted != 1)
        fail("an unconfirmed trial does not revert");
}

static void life_third_reverted(void)
{
    introduce(3);
    must(slots_revert(&slots), "revert");
    if (attached != floor_version)
        fail("revert does not go back");
}

static void life_rewrite(void)
{
    introduce(3);
    start();
    install(4);
}

static void life_release(void)
{
    newest = 2;
    floor_version = 1; /* the user gives version 2 up: what is promised is version 1 */
    must(slots_revert(&slots), "revert");
}

typedef struct {
    const char *name;
    void (*live)(void);
    uint32_t confirmed_before;
} life_t;

static const life_t lives[] = {
    {"first bundle", life_first, 0},
    {"second bundle", life_second, 1},
    {"third bundle", life_third, 2},
    {"trial without confirmation", life_third_unconfirmed, 2},
    {"trial reverted", life_third_reverted, 2},
    {"rewrite after a failed trial", life_rewrite, 2},
    {"give up a confirmed bundle", life_release, 2},
};

static void prepare(const life_t *life)
{
    cut_at = NEVER;
    memset(flash, 0xFF, sizeof flash);
    floor_version = 0;
    start();
    for (uint32_t version = 1; version <= life->confirmed_before; version++)
        install(version);
    newest = floor_version;
    operations = 0;
}

static void check_intact(void)
{
    slot_info_t info;
    const uint8_t *data = flash + slots.active * (FLASH / 2) + SLOT_DATA;
    (void)slots_state(&slots, (uint8_t)slots.active, &info);
    if (info.version != attached)
        fail("the slot's version is not its bundle's");
    for (uint32_t i = 0; i < BUNDLE; i++)
        if (data[i] != byte_of(attached, i))
            fail("a damaged bundle runs");
}

static void check(void)
{
    if (attached != 0)
        check_intact();
    if (attached == 0 && floor_version != 0)
        fail("no hooks run although a bundle was confirmed");
    if (attached != floor_version && attached != newest && attached != 0)
        fail("hooks run that are neither the old nor the new ones");
}

/* Whatever happened, the next update must still go through. */
static void check_not_bricked(void)
{
    cut_at = NEVER;
    start();
    check();
    if (slots.trial) {
        start();
        check();
    }
    install(9);
}

/* Starts again with a cut at the second-th operation of the start itself. False: the start has fewer operations. */
static int start_with_cut(long second)
{
    operations = 0;
    cut_at = second;
    if (setjmp(power_off) == 0) {
        start();
        cut_at = NEVER;
        return 0;
    }
    cut_at = NEVER;
    return 1;
}

static int live_with_cut(const life_t *life, long at)
{
    prepare(life);
    cut_at = at;
    if (setjmp(power_off) == 0) {
        life->live();
        cut_at = NEVER;
        return 0;
    }
    cut_at = NEVER;
    return 1;
}

static long cut_everywhere(const life_t *life)
{
    long points = 0;
    for (long at = 0; live_with_cut(life, at); at++) {
        if (tear_round >= RANDOM_ROUNDS && !tore_a_page)
            continue; /* windows are for pages */
        uint8_t after[FLASH];
        uint32_t promised = floor_version, introduced = newest;
        memcpy(after, flash, sizeof after);
        for (long second = 0;; second++) {
            memcpy(flash, after, sizeof after);
            floor_version = promised;
            newest = introduced;
            points++;
            int again = start_with_cut(second);
            if (!again)
                check();
            check_not_bricked();
            if (!again)
                break;
        }
    }
    return points;
}

/* Any single changed bit, in two confirmed slots: one of both still runs. */
static long flip_every_bit(void)
{
    static const life_t two = {"two confirmed", NULL, 2};
    uint8_t before[FLASH];
    long flips = 0;
    prepare(&two);
    memcpy(before, flash, sizeof before);
    for (uint32_t bit = 0; bit < 8 * FLASH; bit++) {
        memcpy(flash, before, sizeof before);
        flash[bit / 8] = (uint8_t)(flash[bit / 8] ^ 1u << bit % 8);
        start();
        if (attached != 1 && attached != 2)
            fail("one flipped bit leaves no hooks");
        check_intact();
        flips++;
    }
    return flips;
}

int main(void)
{
    long total = 0;
    for (size_t i = 0; i < sizeof lives / sizeof *lives; i++) {
        long points = 0;
        for (cut_how = CUT_BEFORE; cut_how <= CUT_AFTER; cut_how++) {
            int rounds = cut_how == CUT_TORN ? ROUNDS : 1;
            for (tear_round = 0; tear_round < rounds; tear_round++)
                points += cut_everywhere(&lives[i]);
        }
        (void)printf("%s: %ld cut points\n", lives[i].name, points);
        total += points;
    }
    (void)printf("total: %ld cut points\n", total);
    (void)printf("flips: %ld bits\n", flip_every_bit());
    return 0;
}
