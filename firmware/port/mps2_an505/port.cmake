# Arm MPS2 with AN505 (Cortex-M33). Everything runs in the secure state, in which the core starts: addresses are the secure
# aliases. Source: Arm DAI 0505, memory map and interrupts; SSRAM 1 holds code, SSRAM 2 and 3 data.
set(MPS2_UART 0x50200000u)
set(MPS2_UART_IRQ 32)
set(MPS2_CLOCK_HZ 20000000u)
set(MPS2_CODE 0x10000000)
set(MPS2_RAM 0x38000000)
set(MPS2_FAMILY ${CMAKE_CURRENT_LIST_DIR}/../mps2)
target_sources(firmware PRIVATE ${MPS2_FAMILY}/mps2.c ${MPS2_FAMILY}/start.c)
include(${MPS2_FAMILY}/port.cmake)
