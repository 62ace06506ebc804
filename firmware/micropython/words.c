/* The two words that MicroPython's loader fills in; apart, so that no compiler takes them for zeros. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "natmod.h"

const natmod_words_t natmod_words = {NULL, NULL};
