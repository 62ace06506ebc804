/* Registers the module _dhn in a MicroPython that is built with it (user C module). */
/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#define OBJECT(name, arguments)                                                                                        \
    static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(object_##name, arguments, arguments, module_##name);
MODULE_FUNCTIONS(OBJECT)

#define ROW(name, arguments) {MP_ROM_QSTR(MP_QSTR_##name), MP_ROM_PTR(&object_##name)},
static const mp_rom_map_elem_t globals_table[] = {{MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__dhn)},
                                                  MODULE_FUNCTIONS(ROW)};
static MP_DEFINE_CONST_DICT(globals, globals_table);

const mp_obj_module_t dhn_user_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR__dhn, dhn_user_module);
