/* The whole of what a platform must supply to run the device application. This header is the porting manual. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HAL_H
#define HAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A port implements every function below in one folder, together with its start-up code and port.cmake. All are called
 * from one thread of control; interrupts stay inside the port. None may allocate. */

/* Called once, first: clocks, the link's UART, the tick counter. `argc` and `argv` are those of main where a platform has
 * them, else 0 and NULL. */
void hal_init(int argc, char **argv);

/* -- Link: a byte stream to the host. All 256 values pass, bytes may be lost or changed on the way. */

/* Takes up to `capacity` bytes that have arrived, without waiting. Returns how many. */
size_t hal_read(uint8_t *to, size_t capacity);

/* Sends `bytes`; returns when the last one is on its way (may wait, must not wait for a host that is not there). */
void hal_write(const uint8_t *from, size_t bytes);

/* Bytes that arrived and found no room, since the start. */
uint32_t hal_read_overflow(void);

/* Changes the link's speed once everything written is out. 0: done. Negative: this platform cannot, nothing changed. */
int hal_set_baud(uint32_t baud);

/* Waits until a byte may have arrived, with the core asleep where it can sleep. May return early. */
void hal_idle(void);

/* -- Time. Ticks count up and wrap at 2^32. On emulated cores ticks are a fixed multiple of executed instructions. */
uint32_t hal_ticks(void);
uint32_t hal_tick_hz(void);

/* -- Non-volatile memory for hook slots: NOR rules. Offsets count from the start of the slots' area. Erasing sets a page
 * to 0xFF; programming can only clear bits and may be repeated on the same unit. A power cut inside either leaves that
 * one page or unit undefined and nothing else. */

/* Bytes; programs start and end at multiples of it. A port's flash may have smaller units; for larger ones the whole
 * program is compiled with 16 or 32. */
#ifndef HAL_FLASH_UNIT
#define HAL_FLASH_UNIT 8u
#endif

uint32_t hal_flash_bytes(void);      /* of the area, a multiple of two pages; 0: there is none, hooks cannot be kept */
uint32_t hal_flash_page_bytes(void); /* what one erase clears */

/* The area as memory, aligned to 4; not asked for where there is none. Bundles run from here without being copied. */
const uint8_t *hal_flash(void);

/* Both return 0, or a negative number when the hardware reports a failure. Both may take milliseconds. */
int hal_flash_erase(uint32_t page_offset);
int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes);

/* The lowest address that the stack may grow down to, NULL where that is not known. For measuring how deep it went. */
uint8_t *hal_stack_limit(void);

/* -- The rest. */

/* A number that differs from one start to the next, so that a host notices a restart. Called once per start. */
uint32_t hal_random_seed(void);

/* Starts the program afresh, as after power-on, and does not return. A port's fault handlers call it as well: a hook set
 * on trial that crashes is then reverted by the next start. */
void hal_reset(void) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif

#endif
