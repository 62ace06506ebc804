# Arm MPS2 boards: DHN_CODE_BYTES, DHN_RAM_BYTES, DHN_FLASH_BYTES (both slots) and DHN_FLASH_PAGE come from the board's file.
target_compile_definitions(firmware PRIVATE MPS2_FLASH_BYTES=${DHN_FLASH_BYTES}u MPS2_FLASH_PAGE=${DHN_FLASH_PAGE}u)
target_link_options(firmware PRIVATE -nostartfiles --specs=nano.specs -T ${CMAKE_CURRENT_LIST_DIR}/mps2.ld
  -Wl,--defsym=CODE_BYTES=${DHN_CODE_BYTES} -Wl,--defsym=RAM_BYTES=${DHN_RAM_BYTES} -Wl,-Map=firmware.map)
