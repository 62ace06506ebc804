/* Four output channels of a fully connected layer over a list of those inputs that are not zero. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_FC_SPARSE_TILE_H
#define DHN_ARMV7EM_FC_SPARSE_TILE_H

#include "dsp.h"

/* Channels of a block, and bytes of their weights for one item of the list. */
enum { DHN_SPARSE_CHANNELS = 4, DHN_SPARSE_BYTES = 8 };

/* Two inputs less their zero point, and the bytes from a block's first weight to theirs. */
typedef struct {
    uint32_t x;
    uint32_t weights;
} dhn_nonzero_t;

typedef struct {
    int32_t a, b, c, d;
} dhn_sparse_sums_t;

/* list to end: an even number of items, none is allowed. Two words of weights belong to an item, of channels A and B and of C
 * and D; their halfwords are A + 256 * B. The raw halfwords sum up A's and 256 times B's products, their low bytes A's alone:
 * one unpacking for four products. B's comes out right while it fits 24 bits. 19 instructions for 16 products. */
static inline dhn_sparse_sums_t dhn_sparse_block(const dhn_nonzero_t *list, const dhn_nonzero_t *end, const int8_t *w)
{
    int32_t both_ab = 0, low_a = 0, both_cd = 0, low_c = 0;
#if defined(__ARM_FEATURE_DSP)
#define DHN_SPARSE_ITEM(x, weights)                                                                                    \
    "add " weights ", %[w]\n"                                                                                          \
    "ldrd r10, r11, [" weights "]\n"                                                                                   \
    "smlad %[ab], r10, " x ", %[ab]\n"                                                                                 \
    "sxtb16 r10, r10\n"                                                                                                \
    "smlad %[a], r10, " x ", %[a]\n"                                                                                   \
    "smlad %[cd], r11, " x ", %[cd]\n"                                                                                 \
    "sxtb16 r11, r11\n"                                                                                                \
    "smlad %[c], r11, " x ", %[c]\n"
    __asm__ volatile("cmp %[list], %[end]\n"
                     "beq 2f\n"
                     "1:\n"
                     "ldm %[list]!, {r4, r5, r6, r8}\n" DHN_SPARSE_ITEM("r4", "r5")
                         DHN_SPARSE_ITEM("r6", "r8") "cmp %[list], %[end]\n"
                                                     "bne 1b\n"
                                                     "2:\n"
                     : [list] "+r"(list), [ab] "+r"(both_ab), [a] "+r"(low_a), [cd] "+r"(both_cd), [c] "+r"(low_c)
                     : [end] "r"(end), [w] "r"(w)
                     : "r4", "r5", "r6", "r8", "r10", "r11", "cc", "memory");
#undef DHN_SPARSE_ITEM
#else
    for (; list != end; list++) {
        uint32_t const ab = dhn_load32(w + list->weights), cd = dhn_load32(w + list->weights + 4);
        both_ab = dhn_smlad(ab, list->x, both_ab);
        low_a = dhn_smlad(dhn_sxtb16(ab), list->x, low_a);
        both_cd = dhn_smlad(cd, list->x, both_cd);
        low_c = dhn_smlad(dhn_sxtb16(cd), list->x, low_c);
    }
#endif
    return (dhn_sparse_sums_t){
        low_a,
        (int32_t)((uint32_t)both_ab - (uint32_t)low_a) >> 8,
        low_c,
        (int32_t)((uint32_t)both_cd - (uint32_t)low_c) >> 8,
    };
}

#endif
