/* Stands in for MicroPython: finds the functions that a user C module has registered, and calls them. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "py/runtime.h"

extern const mp_obj_module_t *const registered_module;

const mp_obj_type_t mp_type_fun_builtin_var = {0}, mp_type_dict = {0}, mp_type_module = {0};
const mp_obj_base_t mp_const_none_obj = {0};

static const char *const names[] = {
#define QSTR(name) #name,
#include "qstr_names.h"
#undef QSTR
};

mp_obj_t mp_obj_new_int(mp_int_t value)
{
    return (mp_obj_t)((uintptr_t)value << 1 | 1);
}

mp_int_t mp_obj_get_int(mp_const_obj_t obj)
{
    return (mp_int_t)obj >> 1;
}

/* The text itself is the object. */
mp_obj_t mp_obj_new_str(const char *text, size_t bytes)
{
    (void)bytes;
    return (mp_obj_t)(uintptr_t)text;
}

/* A buffer is whoever's mp_buffer_info_t. */
void mp_get_buffer_raise(mp_obj_t obj, mp_buffer_info_t *info, mp_uint_t flags)
{
    (void)flags;
    *info = *(const mp_buffer_info_t *)obj;
}

/* For the test: None, and a call of a function by its name; NULL where there is none for so many arguments. */
mp_obj_t standin_none(void);
mp_obj_t standin_none(void)
{
    return mp_const_none;
}

mp_obj_t standin_call(const char *name, size_t count, const mp_obj_t *arguments);
mp_obj_t standin_call(const char *name, size_t count, const mp_obj_t *arguments)
{
    const mp_obj_dict_t *const globals = registered_module->globals;
    for (size_t i = 0; i < globals->used; i++) {
        const mp_obj_fun_builtin_var_t *const function = globals->table[i].value;
        if (strcmp(names[(uintptr_t)globals->table[i].key >> 3], name) != 0)
            continue;
        return function->sig == (count << 17 | count << 1) ? function->fun.var(count, arguments) : NULL;
    }
    return NULL;
}
