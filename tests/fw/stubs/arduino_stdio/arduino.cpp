/* Stub of Arduino's core: calls the sketch until its input ends. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <Arduino.h>
#include <stdio.h>
#include <stdlib.h>

void setup();
void loop();

StubSerial Serial;

void StubSerial::begin(unsigned long)
{
}

size_t StubSerial::readBytes(char *to, size_t bytes)
{
    size_t got = fread(to, 1, bytes, stdin);
    if (got == 0)
        exit(0);
    return got;
}

size_t StubSerial::println(int value)
{
    return (size_t)printf("%d\n", value);
}

void delay(unsigned long)
{
    exit(1); /* the sketch waits only where the library does not start */
}

int main()
{
    setup();
    for (;;)
        loop();
}
