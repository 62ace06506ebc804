/* Stub of Arduino.h for compile tests: the declarations that the port uses, as the cores have them, and nothing behind. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
/* cores/arduino/Arduino.h and wiring: all cores alike, up to the width of the arguments. */
extern "C" {
unsigned long micros(void);
void delay(unsigned long ms);
void yield(void);
int analogRead(uint8_t pin);
void noInterrupts(void);
void interrupts(void);
}
void setup(void);
void loop(void);
#define A0 14

/* Print.h, Stream.h, HardwareSerial.h */
class Stream
{
  public:
    virtual int available() = 0;
    virtual int read() = 0;
    virtual size_t write(uint8_t byte) = 0;
    virtual size_t write(const uint8_t *buffer, size_t size) = 0;
    virtual void flush() = 0;
};

class HardwareSerial : public Stream
{
  public:
    void begin(unsigned long baud);
    void end();
    int available() override;
    int read() override;
    size_t write(uint8_t byte) override;
    size_t write(const uint8_t *buffer, size_t size) override;
    void flush() override;
#if defined(ARDUINO_ARCH_ESP32) || defined(ARDUINO_ARCH_ESP8266)
    size_t setRxBufferSize(size_t size);
#endif
};
extern HardwareSerial Serial;

#if defined(ARDUINO_ARCH_ESP32) /* cores/esp32/Esp.h */
class EspClass
{
  public:
    void restart();
    uint32_t getCpuFreqMHz();
    uint32_t getCycleCount();
};
extern EspClass ESP;
#endif

#if defined(ARDUINO_ARCH_ESP8266) /* cores/esp8266/Esp.h */
class EspClass
{
  public:
    void restart();
    void wdtDisable();
    void wdtFeed();
    uint8_t getCpuFreqMHz();
    uint32_t getSketchSize();
    bool flashEraseSector(uint32_t sector);
    bool flashWrite(uint32_t address, const uint32_t *data, size_t size);
    bool flashWrite(uint32_t address, const uint8_t *data, size_t size);
    bool flashRead(uint32_t address, uint8_t *data, size_t size);
    bool flashRead(uint32_t address, uint32_t *data, size_t size);
    uint32_t getCycleCount();
};
extern EspClass ESP;
#endif

#if defined(ARDUINO_ARCH_RP2040) && !defined(ARDUINO_ARCH_MBED) /* cores/rp2040/RP2040Support.h */
class RP2040
{
  public:
    static int f_cpu();
    uint32_t getCycleCount();
    void idleOtherCore();
    void resumeOtherCore();
    void reboot();
    uint32_t hwrand32();
};
extern RP2040 rp2040;
#endif

#if defined(__IMXRT1062__) /* cores/teensy4/core_pins.h */
extern "C" volatile uint32_t F_CPU_ACTUAL;
#endif
#endif /* __cplusplus */

#if defined(ARDUINO_ARCH_STM32)
#include "stm32_hal.h"
#endif

#endif
