/* Loads a native MicroPython module on a bare core as MicroPython's loader would, and prints what a network answers. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>

#include "mpy_input.h" /* generated: module, pack, x as byte arrays, and how many inputs x holds */

typedef uintptr_t call0_fn(size_t count, const uintptr_t *arguments);
typedef struct {
    uintptr_t type;
    uint32_t signature;
    call0_fn *call;
} function_t;
/* What stands for a buffer of MicroPython. */
typedef struct {
    void *at;
    size_t bytes;
} buffer_t;

static uint32_t heap[1 << 16];
static uint32_t used;
static function_t *functions[32];
static uintptr_t table[96];
static const uint16_t names[32] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#if defined(__arm__)
static void put_char(char c)
{
    *(volatile uint32_t *)0x40004008u = 1; /* CMSDK UART 0: transmitter on */
    *(volatile uint32_t *)0x40004000u = (uint8_t)c;
}

static void stop(void)
{
    register uint32_t operation __asm__("r0") = 0x18; /* semihosting: exit */
    register uint32_t reason __asm__("r1") = 0x20026;
    __asm__ volatile("bkpt 0xab" ::"r"(operation), "r"(reason) : "memory");
    for (;;) {
    }
}
#elif defined(__xtensa__)
static void sim_call(uint32_t number, uint32_t first, const void *second, uint32_t third)
{
    register uint32_t a2 __asm__("a2") = number;
    register uint32_t a3 __asm__("a3") = first;
    register const void *a4 __asm__("a4") = second;
    register uint32_t a5 __asm__("a5") = third;
    __asm__ volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
}

static void put_char(char c)
{
    sim_call(4, 1, &c, 1); /* write to standard output */
}

static void stop(void)
{
    sim_call(1, 0, NULL, 0); /* exit */
    for (;;) {
    }
}
#else
static void put_char(char c)
{
    *(volatile uint8_t *)0x10000000u = (uint8_t)c;
}

static void stop(void)
{
    *(volatile uint32_t *)0x00100000u = 0x5555; /* the virt machine's power switch */
    for (;;) {
    }
}
#endif

void *memset(void *to, int value, size_t bytes)
{
    for (volatile uint8_t *p = to; bytes--; p++)
        *p = (uint8_t)value;
    return to;
}

static void *move(void *to, const void *from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    for (size_t i = 0; i < bytes; i++)
        if (t < f)
            t[i] = f[i];
        else
            t[bytes - 1 - i] = f[bytes - 1 - i];
    return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
    volatile uint8_t *t = to;
    for (const uint8_t *f = from; bytes--;)
        *t++ = *f++;
    return to;
}

static void *take(void *old, size_t bytes, int can_move)
{
    (void)old;
    (void)can_move;
    void *at = &heap[used];
    used += (uint32_t)(bytes + 15) / 16 * 4;
    return at;
}

static uintptr_t to_obj(uintptr_t value, uintptr_t kind)
{
    (void)kind;
    return value << 1 | 1;
}

static uintptr_t from_obj(uintptr_t obj, uintptr_t kind)
{
    (void)kind;
    return (uintptr_t)((intptr_t)obj >> 1);
}

static void store_global(uintptr_t name, function_t *function)
{
    functions[name] = function;
}

static uintptr_t get_buffer(const buffer_t *obj, buffer_t *info, uintptr_t flags)
{
    (void)flags;
    *info = *obj;
    return 1;
}

/* -- The .mpy file */

static const uint8_t *cursor;

static uint32_t take_uint(void)
{
    uint32_t value = 0;
    do
        value = value << 7 | (*cursor & 0x7F);
    while (*cursor++ & 0x80);
    return value;
}

/* `constants` are those that lie apart from the code. */
static void relocate(uintptr_t text, uintptr_t constants)
{
    for (uint8_t code; (code = *cursor++) != 0xFF;) {
        const uintptr_t bases[] = {text, constants, 0, (uintptr_t)names, (uintptr_t)table};
        uint32_t at = take_uint();
        ((uintptr_t *)(at & 1 ? constants : text))[at >> 1] += bases[code >> 2];
    }
}

static uintptr_t load_module(void)
{
    cursor = module + 4;
    uint32_t count = take_uint();
    (void)take_uint();
    for (; count--; cursor++)
        cursor += take_uint() >> 1;
    uint32_t bytes = take_uint() >> 3;
    uintptr_t text = (uintptr_t)take(NULL, bytes, 0);
    move((void *)text, cursor, bytes);
    cursor += bytes;
    uintptr_t constants = 0;
    if (take_uint() & 0x20) {
        bytes = take_uint();
        constants = (uintptr_t)take(NULL, bytes, 0);
        move((void *)constants, cursor, bytes);
        cursor += bytes;
    }
    relocate(text, constants);
    return text;
}

/* -- The test */

static uintptr_t call(uint32_t name, size_t count, const uintptr_t *arguments)
{
    return functions[name]->call(count, arguments);
}

static void put_hex(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < 2 * count; i++)
        put_char("0123456789abcdef"[bytes[i / 2] >> (i % 2 ? 0 : 4) & 15]);
    put_char('\n');
}

enum { STATE_BYTES = 1, NEED, LOAD, ATTACH, TENSOR, RUN, PUT, GET };

static void answer(buffer_t *state, buffer_t *data, buffer_t *arena)
{
    uintptr_t none = table[0], zero = to_obj(0, 0);
    buffer_t input = {NULL, from_obj(call(TENSOR, 3, (uintptr_t[]){(uintptr_t)state, zero, zero}), 0)};
    buffer_t output = {NULL, from_obj(call(TENSOR, 3, (uintptr_t[]){(uintptr_t)state, to_obj(1, 0), zero}), 0)};
    output.at = take(NULL, output.bytes, 0);
    for (uint32_t i = 0; i < inputs; i++) {
        input.at = (void *)(x + i * input.bytes);
        uintptr_t status = call(PUT, 4, (uintptr_t[]){(uintptr_t)state, (uintptr_t)arena, zero, (uintptr_t)&input});
        status |= call(RUN, 6, (uintptr_t[]){(uintptr_t)state, (uintptr_t)data, (uintptr_t)arena, none, zero, none});
        status |= call(GET, 4, (uintptr_t[]){(uintptr_t)state, (uintptr_t)arena, zero, (uintptr_t)&output});
        if (status == to_obj(0, 0))
            put_hex(output.at, output.bytes);
    }
}

int main(void)
{
    table[0] = (uintptr_t)&table[0];
    table[3] = (uintptr_t)from_obj;
    table[4] = (uintptr_t)to_obj;
    table[13] = (uintptr_t)store_global;
    table[50] = (uintptr_t)memset;
    table[51] = (uintptr_t)move;
    table[52] = (uintptr_t)take;
    table[65] = (uintptr_t)get_buffer;
    uintptr_t text = load_module();
#if defined(__arm__)
    text |= 1;
#endif
    ((uintptr_t (*)(void *, size_t, size_t, void *))text)(NULL, 0, 0, NULL);
    buffer_t data = {(void *)pack, sizeof pack}, state, arena;
    state.bytes = from_obj(call(STATE_BYTES, 0, NULL), 0);
    state.at = take(NULL, state.bytes, 0);
    arena.bytes = from_obj(call(NEED, 1, (uintptr_t[]){(uintptr_t)&data}), 0);
    arena.at = take(NULL, arena.bytes, 0);
    intptr_t status = (intptr_t)call(LOAD, 3, (uintptr_t[]){(uintptr_t)&state, (uintptr_t)&data, (uintptr_t)&arena});
    put_hex((const uint8_t *)&status, 1);
    answer(&state, &data, &arena);
    stop();
    return 0;
}

#if defined(__arm__)
extern uint32_t stack_top[];
void reset(void);
void reset(void)
{
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xF00000u; /* the floating-point unit on: MicroPython has it so */
    __asm__ volatile("dsb\n isb");
#endif
    main();
}
__attribute__((section(".start"), used)) static const void *const vectors[4] = {stack_top, (const void *)reset,
                                                                                (const void *)stop, (const void *)stop};
#elif defined(__xtensa__)
/* Vectors of QEMU's DE212 where they are after a reset, for windows of eight registers as the architecture's reference
 * manual has them. The LX106 has no windows and no use for them. */
__asm__(".section .rom, \"ax\"\n"
        "    j 1f\n"
        "    .literal_position\n"
        "    .align 4\n"
        "1:  movi a0, reset\n"
        "    jx a0\n"
        "    .section .start, \"ax\"\n"
#if defined(__XTENSA_WINDOWED_ABI__)
        "    .org 0x80\n" /* overflow */
        "    s32e a0, a9, -16\n"
        "    l32e a0, a1, -12\n"
        "    s32e a1, a9, -12\n"
        "    s32e a2, a9, -8\n"
        "    s32e a3, a9, -4\n"
        "    s32e a4, a0, -32\n"
        "    s32e a5, a0, -28\n"
        "    s32e a6, a0, -24\n"
        "    s32e a7, a0, -20\n"
        "    rfwo\n"
        "    .org 0xC0\n" /* underflow */
        "    l32e a0, a9, -16\n"
        "    l32e a1, a9, -12\n"
        "    l32e a2, a9, -8\n"
        "    l32e a7, a1, -12\n"
        "    l32e a3, a9, -4\n"
        "    l32e a4, a7, -32\n"
        "    l32e a5, a7, -28\n"
        "    l32e a6, a7, -24\n"
        "    l32e a7, a7, -20\n"
        "    rfwu\n"
        "    .org 0x200\n"
        "    .literal_position\n"
        "    .align 4\n"
        "reset:\n"
        "    movi a0, 0\n"
        "    wsr a0, windowbase\n"
        "    rsync\n"
        "    movi a0, 1\n"
        "    wsr a0, windowstart\n"
        "    rsync\n"
        "    movi a0, 0x40000\n" /* windows on, no exception, no interrupt masked */
        "    wsr a0, ps\n"
        "    rsync\n"
        "    movi a2, stack_top\n" /* what a caller's stack pointer would be, for the overflow of this window */
        "    addi a1, a2, -64\n"
        "    addi a3, a1, -16\n"
        "    s32i a2, a3, 4\n"
        "    call8 main\n"
#else
        "    .literal_position\n"
        "    .align 4\n"
        "reset:\n"
        "    movi a1, stack_top\n"
        "    call0 main\n"
#endif
        "    .text\n");
#else
__attribute__((section(".start"), naked, used)) void reset(void)
{
    __asm__ volatile("la sp, stack_top\n j main");
}
#endif
