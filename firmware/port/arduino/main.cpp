/* The sketch: the application, entered by setup and loop. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <Arduino.h>

extern "C" {
#include "app.h"
}

void setup()
{
    app_start(0, nullptr);
}

void loop()
{
    app_step();
}
