/* What the files of this port need of one another. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PARTS_H
#define PARTS_H

#include "esp_slots.h" /* flash_start, which each family supplies; esp_slots.c is that of ESP32 */

/* Called once, by hal_init. */
void ticks_start();

/* Resets an Arm core at once. */
[[noreturn]] void restart_core();

/* Starts the program afresh, on cores of no known family. */
void restart();

#endif
