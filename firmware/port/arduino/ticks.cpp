/* The HAL's ticks on Arduino cores: clock cycles where the core counts them, else microseconds. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <Arduino.h>

#include "family.h"
#include "parts.h"
#include "hal.h"

#if defined(FAMILY_ESP32) || defined(FAMILY_ESP8266)

void ticks_start()
{
#if defined(FAMILY_ESP8266)
    ESP.wdtDisable(); /* Esp.h: the watchdog of three seconds; that of the hardware, of six at least, stays */
#endif
}

uint32_t hal_ticks(void)
{
#if defined(FAMILY_ESP8266)
    ESP.wdtFeed(); /* feeds both; asked at each hook point of a run: a sign of life */
#endif
    return ESP.getCycleCount(); /* Esp.h */
}

uint32_t hal_tick_hz(void)
{
    return static_cast<uint32_t>(ESP.getCpuFreqMHz()) * 1000000u;
}

#elif defined(FAMILY_RP2040)

void ticks_start()
{
}

uint32_t hal_ticks(void)
{
    return rp2040.getCycleCount(); /* RP2040Support.h: of SysTick, with its wraps counted */
}

uint32_t hal_tick_hz(void)
{
    return static_cast<uint32_t>(rp2040.f_cpu());
}

#elif defined(FAMILY_HAS_DWT)

/* Armv7-M debug registers (Arm DDI 0403, sections C1.6.5 and C1.8): the cycle counter runs with trace enabled. Cortex-M7
 * wants it unlocked as well (Arm DDI 0489, section 12.2). */
#define DEMCR_REGISTER (*reinterpret_cast<volatile uint32_t *>(0xE000EDFCu))
#define DWT_CTRL_REGISTER (*reinterpret_cast<volatile uint32_t *>(0xE0001000u))
#define DWT_CYCCNT_REGISTER (*reinterpret_cast<volatile uint32_t *>(0xE0001004u))
#define DWT_LAR_REGISTER (*reinterpret_cast<volatile uint32_t *>(0xE0001FB0u))

#if !defined(FAMILY_TEENSY4)
extern "C" uint32_t SystemCoreClock; /* CMSIS, system_*.h */
#endif

void ticks_start()
{
    DEMCR_REGISTER = DEMCR_REGISTER | 1u << 24;
    DWT_LAR_REGISTER = 0xC5ACCE55u;
    DWT_CTRL_REGISTER = DWT_CTRL_REGISTER | 1u;
}

uint32_t hal_ticks(void)
{
    return DWT_CYCCNT_REGISTER;
}

uint32_t hal_tick_hz(void)
{
#if defined(FAMILY_TEENSY4)
    return F_CPU_ACTUAL; /* core_pins.h */
#else
    return SystemCoreClock;
#endif
}

#else

void ticks_start()
{
}

uint32_t hal_ticks(void)
{
    return static_cast<uint32_t>(micros());
}

uint32_t hal_tick_hz(void)
{
    return 1000000;
}

#endif
