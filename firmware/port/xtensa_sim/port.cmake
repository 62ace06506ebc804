# QEMU's Xtensa sim machine: DHN_CODE_BYTES and DHN_RAM_BYTES come from the board's file.
# Debian's compiler comes without a C library: the port brings the five functions of string.h that are used.
target_include_directories(firmware PRIVATE ${CMAKE_CURRENT_LIST_DIR}/libc)
include(${CMAKE_CURRENT_LIST_DIR}/../common/nor_flash.cmake)
target_link_options(firmware PRIVATE -nostartfiles -nostdlib -T${CMAKE_CURRENT_LIST_DIR}/xtensa_sim.ld
  -Wl,--defsym=CODE_BYTES=${DHN_CODE_BYTES} -Wl,--defsym=RAM_BYTES=${DHN_RAM_BYTES} -Wl,-Map=firmware.map)
target_link_libraries(firmware PRIVATE gcc)
# Or GCC would make memcpy call itself.
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/libc.c PROPERTIES COMPILE_OPTIONS "-O2;-fno-tree-loop-distribute-patterns")
