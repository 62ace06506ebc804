# Arm MPS2 boards AN385, AN386 and AN500: DHN_CODE_BYTES, DHN_RAM_BYTES and DHN_FLASH_BASE come from the board's
# file. Ports of the same family set what differs and include this file.
# Sources: Arm DAI 0385, DAI 0386 and DAI 0500: UART 0 at 0x40004000, its receive interrupt is 0, 25 MHz.
include(${CMAKE_CURRENT_LIST_DIR}/../common/nor_flash.cmake)
foreach(default MPS2_UART=0x40004000u MPS2_UART_IRQ=0 MPS2_CLOCK_HZ=25000000u MPS2_CODE=0x00000000 MPS2_RAM=0x20000000)
  string(REPLACE "=" ";" pair ${default})
  list(GET pair 0 name)
  list(GET pair 1 value)
  if(NOT DEFINED ${name})
    set(${name} ${value})
  endif()
endforeach()
target_include_directories(firmware PRIVATE ${CMAKE_CURRENT_LIST_DIR})
target_compile_definitions(firmware PRIVATE MPS2_UART=${MPS2_UART} MPS2_UART_IRQ=${MPS2_UART_IRQ}
  MPS2_CLOCK_HZ=${MPS2_CLOCK_HZ} MPS2_FLASH_BASE=${DHN_FLASH_BASE}u)
target_link_options(firmware PRIVATE -nostartfiles --specs=nano.specs -T ${CMAKE_CURRENT_LIST_DIR}/mps2.ld
  -Wl,--defsym=CODE_BASE=${MPS2_CODE} -Wl,--defsym=CODE_BYTES=${DHN_CODE_BYTES}
  -Wl,--defsym=RAM_BASE=${MPS2_RAM} -Wl,--defsym=RAM_BYTES=${DHN_RAM_BYTES} -Wl,-Map=firmware.map)
