/* GCC's own stdint.h: its wrapper looks for a C library's, which Debian's LX106 compiler does not have. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint-gcc.h>
