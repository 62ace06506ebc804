/* Compile-time limits of the device application, each with its default and range. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

/* Largest payload of a frame, in bytes. Costs about twice that in RAM: one frame coming in, one reply kept. */
#ifndef APP_MTU
#define APP_MTU 1024
#endif
#if APP_MTU < 256 || APP_MTU > 16384 || APP_MTU % 8 != 0
#error "APP_MTU: 256 to 16,384, a multiple of 8"
#endif

/* Bytes of a sample per frame. Small parts lose less to a broken byte, large ones have less overhead. */
#ifndef APP_SAMPLE_PART
#define APP_SAMPLE_PART 240
#endif
#if APP_SAMPLE_PART < 64 || APP_SAMPLE_PART > APP_MTU
#error "APP_SAMPLE_PART: 64 to APP_MTU"
#endif

/* Most samples that the sampler's memory is divided into. Costs four bytes each. */
#ifndef APP_MAX_CELLS
#define APP_MAX_CELLS 64
#endif
#if APP_MAX_CELLS < 2 || APP_MAX_CELLS > 255
#error "APP_MAX_CELLS: 2 to 255"
#endif

/* Classes that the class-balanced sampler counts apart; of a network with more, some share a count. Costs two bytes
 * each. */
#ifndef APP_MAX_CLASSES
#define APP_MAX_CLASSES 64
#endif
#if APP_MAX_CLASSES < 2 || APP_MAX_CLASSES > 4096
#error "APP_MAX_CLASSES: 2 to 4,096"
#endif

/* Rows of a bundle's table of ranges that the drift monitor watches. Costs eight bytes each. */
#ifndef APP_MAX_RANGES
#define APP_MAX_RANGES 64
#endif
#if APP_MAX_RANGES < 1 || APP_MAX_RANGES > 255
#error "APP_MAX_RANGES: 1 to 255"
#endif

/* After a change of speed: seconds without a good frame until the board falls back to the first speed. */
#ifndef APP_BAUD_PATIENCE_S
#define APP_BAUD_PATIENCE_S 2u
#endif

/* The speed at start-up. */
#ifndef APP_BAUD
#define APP_BAUD 115200u
#endif

#endif
