/* What the generated model.c and registry.c supply to the application. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "dhn.h"

/* The section of model_pack. A framework's linker script knows its own names: .rodata, and others on Teensy 4 and ESP8266, which
 * copy that to RAM. */
#ifndef MODEL_WEIGHTS
#if defined(__IMXRT1062__)
#define MODEL_WEIGHTS ".progmem.dhn_weights"
#elif defined(ARDUINO_ARCH_ESP8266)
#define MODEL_WEIGHTS ".irom.text.dhn_weights"
#elif defined(ARDUINO) || defined(ESP_PLATFORM)
#define MODEL_WEIGHTS ".rodata.dhn_weights"
#else
#define MODEL_WEIGHTS ".dhn_weights"
#endif
#endif

#if defined(DHN_MODEL_PARTITION) /* the network is no part of the program: the port finds it in flash */
extern const uint8_t *model_pack;
extern uint32_t model_pack_bytes;
#else
extern const uint8_t model_pack[]; /* aligned to 16, in flash */
extern const uint32_t model_pack_bytes;
#endif

/* The section of model_arena: internal RAM, unless external is asked for (ESP-IDF with
 * CONFIG_SPIRAM_ALLOW_BSS_SEG_EXTERNAL_MEMORY, where it is several times slower). */
#if defined(DHN_ARENA_PSRAM)
#define MODEL_ARENA ".ext_ram.bss.dhn_arena"
#else
#define MODEL_ARENA ".bss.dhn_arena"
#endif

extern uint8_t model_arena[]; /* aligned to 16 */
extern const uint32_t model_arena_bytes;

extern const uint32_t
    model_full_ticks; /* predicted for a run without hooks; 0: this board's ticks cannot be predicted */
extern const uint32_t model_ram_bytes; /* of the board */

extern uint32_t model_segment_ticks[]; /* one per hook point, and one */
extern const uint16_t model_segments;
extern uint32_t model_op_ticks[]; /* one per operator of the main program */
extern const uint16_t model_ops;

extern uint8_t model_sample_memory[]; /* aligned to 4 */
extern const uint32_t model_sample_bytes;

extern const dhn_kernel_t model_registry[];
extern const uint16_t model_registry_count;

extern const char model_board_name[]; /* at most 31 characters */

#endif
