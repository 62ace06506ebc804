/* Stub of Arduino's core: what the library's sketch calls, over standard input and output. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>

class StubSerial
{
  public:
    void begin(unsigned long baud);
    size_t readBytes(char *to, size_t bytes);
    size_t println(int value);
};

extern StubSerial Serial;
void delay(unsigned long ms);

#endif
