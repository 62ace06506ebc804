/* Which chip family an Arduino core is for, by the macros that the cores themselves define. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FAMILY_H
#define FAMILY_H

#if defined(ARDUINO_ARCH_ESP32)
#define FAMILY_ESP32
#elif defined(ARDUINO_ARCH_ESP8266)
#define FAMILY_ESP8266
#elif defined(ARDUINO_ARCH_MBED) /* before RP2040: Mbed's core for the Pico defines both */
#define FAMILY_MBED
#elif defined(ARDUINO_ARCH_RP2040)
#define FAMILY_RP2040
#elif defined(ARDUINO_ARCH_STM32)
#define FAMILY_STM32
#elif defined(__IMXRT1062__)
#define FAMILY_TEENSY4
#elif defined(NRF52840_XXAA)
#define FAMILY_NRF52
#endif

/* Where hooks are kept: in flash that is read as memory (mapped_flash.h), elsewhere, or not at all. */
#if defined(FAMILY_MBED) || defined(FAMILY_RP2040) || defined(FAMILY_TEENSY4) || defined(FAMILY_NRF52)
#define FAMILY_HAS_MAPPED_FLASH
#elif defined(FAMILY_STM32) && (defined(STM32F4xx) || defined(STM32L4xx) || defined(STM32H7xx))
#define FAMILY_HAS_MAPPED_FLASH
#endif
#if defined(FAMILY_STM32) && defined(STM32H7xx)
#define FAMILY_FAULTS_ON_TORN_FLASH
#endif
#if defined(FAMILY_HAS_MAPPED_FLASH) || defined(FAMILY_ESP32) || defined(FAMILY_ESP8266)
#define FAMILY_KEEPS_HOOKS
#endif

/* Of Cortex-M those with a cycle counter (Armv7-M and later, not the baseline profiles). */
#if defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__)
#define FAMILY_HAS_DWT
#endif

#endif
