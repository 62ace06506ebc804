/* Entry of the native module (.mpy): publishes the functions, and lends the compiler MicroPython's memory functions. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <string.h>

typedef void *natmod_memset(void *to, int value, size_t bytes);
typedef void *natmod_memmove(void *to, const void *from, size_t bytes);
typedef void *natmod_realloc(void *old, size_t bytes, bool move);
typedef void natmod_store_global(mp_uint_t name, mp_obj_t value);

/* A function object of MicroPython that takes a variable number of arguments. */
typedef struct {
    const void *type;
    uint32_t signature; /* least arguments << 17 | most arguments << 1 | keywords */
    module_fn *call;
    const void *keep; /* nothing else on MicroPython's heap points to the module's constants: not to be collected */
} natmod_function_t;

void *memset(void *to, int value, size_t bytes)
{
    return NATMOD_CALL(NATMOD_MEMSET, natmod_memset)(to, value, bytes);
}

void *memmove(void *to, const void *from, size_t bytes)
{
    return NATMOD_CALL(NATMOD_MEMMOVE, natmod_memmove)(to, from, bytes);
}

void *memcpy(void *to, const void *from, size_t bytes)
{
    return memmove(to, from, bytes);
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const unsigned char *const left = a;
    const unsigned char *const right = b;
    for (size_t i = 0; i < bytes; i++)
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    return 0;
}

static void publish(uint16_t name, uint32_t arguments, module_fn *call)
{
    natmod_function_t *function = NATMOD_CALL(NATMOD_REALLOC, natmod_realloc)(NULL, sizeof *function, 0);
    if (function == NULL)
        return; /* the name is missing then, and its first use says so */
    function->type = natmod_words.table[NATMOD_TYPE_FUN_VAR];
    function->signature = arguments << 17 | arguments << 1;
    function->call = call;
    function->keep = natmod_keep;
    NATMOD_CALL(NATMOD_STORE_GLOBAL, natmod_store_global)(name, function);
}

/* The linker puts it first, where MicroPython starts. Name 0 is the file's. */
mp_obj_t mpy_init(void *self, size_t count, size_t keywords, mp_obj_t *arguments);
__attribute__((section(".text.mpy_init"))) mp_obj_t mpy_init(void *self, size_t count, size_t keywords,
                                                             mp_obj_t *arguments)
{
    (void)self;
    (void)count;
    (void)keywords;
    (void)arguments;
    const uint16_t *name = natmod_words.names;
#define PUBLISH(function, arguments) publish(*++name, arguments, module_##function);
    MODULE_FUNCTIONS(PUBLISH)
#undef PUBLISH
    return mp_const_none;
}
