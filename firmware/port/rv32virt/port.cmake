# QEMU's RISC-V virt machine: DHN_CODE_BYTES, DHN_RAM_BYTES, DHN_FLASH_BYTES (both slots) and DHN_FLASH_PAGE come from the board's file.
target_compile_definitions(firmware PRIVATE RV32_FLASH_BYTES=${DHN_FLASH_BYTES}u RV32_FLASH_PAGE=${DHN_FLASH_PAGE}u)
target_compile_options(firmware PRIVATE --specs=picolibc.specs)
target_link_options(firmware PRIVATE -nostartfiles --specs=picolibc.specs -T${CMAKE_CURRENT_LIST_DIR}/rv32virt.ld
  -Wl,--defsym=CODE_BYTES=${DHN_CODE_BYTES} -Wl,--defsym=RAM_BYTES=${DHN_RAM_BYTES} -Wl,-Map=firmware.map)
