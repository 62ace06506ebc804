/* A crash ends in a restart, so that the hooks on trial that caused it are reverted. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>

#include "family.h"
#include "parts.h"

#if defined(__ARM_ARCH)

void restart_core()
{
    /* SYSRESETREQ, with the key that the register asks for (Arm DDI 0403, B3.2.6; DDI 0419, B3.2.6). */
    __asm volatile("dsb" ::: "memory");
    *reinterpret_cast<volatile uint32_t *>(0xE000ED0Cu) = 0x05FA0004u;
    for (;;) {
    }
}

/* In place of the cores' endless loops, which are weak too and come later in the linker's order. Where a core has a handler
 * of its own that restarts already (ESP32, ESP8266, Teensy), that one stays. */
extern "C" __attribute__((weak)) void HardFault_Handler(void)
{
    restart_core();
}

#if defined(FAMILY_MBED)
/* Mbed's fault handler is not weak, but what it ends in is (platform/mbed_interface.h), and would blink for ever. */
extern "C" [[noreturn]] void mbed_die(void)
{
    restart_core();
}
#endif

#if defined(FAMILY_RP2040) /* the Pico SDK's name for it (crt0.S) */
extern "C" __attribute__((weak)) void isr_hardfault(void)
{
    restart_core();
}
#endif

#endif
