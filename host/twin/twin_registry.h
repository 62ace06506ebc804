/* The kernels of all architectures, listed by a generated file. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TWIN_REGISTRY_H
#define TWIN_REGISTRY_H

#include "dhn.h"

extern const dhn_kernel_t twin_registry[];
extern const uint16_t twin_registry_count;
extern const char twin_interface[]; /* of the sources, as the host computes it (dhn_kit/interface.py) */

#endif
