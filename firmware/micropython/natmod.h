/* What the module uses of MicroPython, reached through the table of functions that a native module (.mpy) is given. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NATMOD_H
#define NATMOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The native interface of .mpy version 6.3 (MicroPython 1.23 and later). Names are MicroPython's own, so that the same
 * module compiles against its headers as a user C module. */
typedef void *mp_obj_t;
typedef intptr_t mp_int_t;
typedef uintptr_t mp_uint_t;
typedef struct {
    void *buf;
    size_t len;
    int typecode;
} mp_buffer_info_t;

enum { MP_BUFFER_READ = 1, MP_BUFFER_WRITE = 2, NATMOD_BUFFER_RAISE = 4 };
enum { NATMOD_INT = 2 }; /* kind of conversion */

/* Positions in the table. */
enum {
    NATMOD_NONE = 0,
    NATMOD_INT_FROM = 3,
    NATMOD_INT_TO = 4,
    NATMOD_STORE_GLOBAL = 13,
    NATMOD_MEMSET = 50,
    NATMOD_MEMMOVE = 51,
    NATMOD_REALLOC = 52,
    NATMOD_NEW_STR = 57,
    NATMOD_GET_BUFFER = 65,
    NATMOD_TYPE_FUN_VAR = 81
};

/* The loader puts the addresses of the table and of the module's names here. */
typedef struct {
    void *const *table;
    const uint16_t *names;
} natmod_words_t;
extern const natmod_words_t natmod_words;

/* Start of the memory that holds the module's constants (natmod.ld). */
extern const uint32_t natmod_keep[];

/* An entry of the table as a function; the union is how C99 turns a data pointer into one. */
#define NATMOD_CALL(index, type)                                                                                       \
    (((union {                                                                                                         \
         void *data;                                                                                                   \
         type *call;                                                                                                   \
     }){natmod_words.table[index]})                                                                                    \
         .call)

typedef mp_obj_t natmod_to_obj(mp_uint_t value, mp_uint_t kind);
typedef mp_uint_t natmod_from_obj(mp_obj_t obj, mp_uint_t kind);
typedef mp_obj_t natmod_new_str(const char *text, size_t bytes);
typedef bool natmod_get_buffer(mp_obj_t obj, mp_buffer_info_t *info, mp_uint_t flags);

#define mp_const_none (natmod_words.table[NATMOD_NONE])

static inline mp_obj_t mp_obj_new_int(mp_int_t value)
{
    return NATMOD_CALL(NATMOD_INT_TO, natmod_to_obj)((mp_uint_t)value, NATMOD_INT);
}

static inline mp_int_t mp_obj_get_int(mp_obj_t obj)
{
    return (mp_int_t)NATMOD_CALL(NATMOD_INT_FROM, natmod_from_obj)(obj, NATMOD_INT);
}

static inline mp_obj_t mp_obj_new_str(const char *text, size_t bytes)
{
    return NATMOD_CALL(NATMOD_NEW_STR, natmod_new_str)(text, bytes);
}

static inline void mp_get_buffer_raise(mp_obj_t obj, mp_buffer_info_t *info, mp_uint_t flags)
{
    (void)NATMOD_CALL(NATMOD_GET_BUFFER, natmod_get_buffer)(obj, info, flags | NATMOD_BUFFER_RAISE);
}

#endif
