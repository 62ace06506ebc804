# Arm MPS3 with AN547 (Cortex-M55). Everything runs in the secure state, in which the core starts: addresses are the secure
# aliases, and as long as the attribution unit is off, the memory below 0x70000000 is secure too. Source: Arm DAI 0547, memory map and interrupts; the instruction TCM holds code, the internal SRAM data.
set(MPS2_UART 0x59303000u)
set(MPS2_UART_IRQ 33)
set(MPS2_CLOCK_HZ 32000000u)
set(MPS2_CODE 0x10000000)
set(MPS2_RAM 0x31000000)
set(MPS2_FAMILY ${CMAKE_CURRENT_LIST_DIR}/../mps2)
target_sources(firmware PRIVATE ${MPS2_FAMILY}/mps2.c ${MPS2_FAMILY}/start.c)
include(${MPS2_FAMILY}/port.cmake)
