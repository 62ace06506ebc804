/* Included before every source of a native module: all symbols are its own, so that code reaches them without a table. */
/* SPDX-License-Identifier: Apache-2.0 */
#pragma GCC visibility push(hidden)
