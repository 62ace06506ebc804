# QEMU's RISC-V virt machine: DHN_CODE_BYTES and DHN_RAM_BYTES come from the board's file.
include(${CMAKE_CURRENT_LIST_DIR}/../common/nor_flash.cmake)
target_compile_options(firmware PRIVATE --specs=picolibc.specs)
target_link_options(firmware PRIVATE -nostartfiles --specs=picolibc.specs -T${CMAKE_CURRENT_LIST_DIR}/rv32virt.ld
  -Wl,--defsym=CODE_BYTES=${DHN_CODE_BYTES} -Wl,--defsym=RAM_BYTES=${DHN_RAM_BYTES} -Wl,-Map=firmware.map)
