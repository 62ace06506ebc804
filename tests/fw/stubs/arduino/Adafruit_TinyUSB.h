/* Stub of Adafruit's TinyUSB library, which supplies Serial on its nRF52 core, for compile tests. */
/* SPDX-License-Identifier: Apache-2.0 */
