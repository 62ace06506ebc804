/* The inner loops of Winograd kernels that no tile size changes, in Thumb-2; portable/winograd_loops.h has them in C. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHN_ARMV7EM_WINOGRAD_THUMB_H
#define DHN_ARMV7EM_WINOGRAD_THUMB_H

#include <stdint.h>

/* Every loop needs all 14 registers, which C does not give, and has a section of its own. One file includes them. */

/* Whether columns may start anywhere. */
enum { DHN_WINO_READS_UNALIGNED = 1 };

void dhn_wino_sums(uint8_t *v, const uint8_t *u, uint32_t pairs, uint8_t *end);
void dhn_wino_sums_inside(uint8_t *v, uint32_t pairs, uint8_t *end);

__asm__(".syntax unified\n"
        ".thumb\n"
        ".macro dhn_wino_begin name\n"
        ".pushsection .text.\\name, \"ax\", %progbits\n"
        ".balign 4\n"
        ".type \\name, %function\n"
        ".thumb_func\n"
        "\\name:\n"
        ".endm\n"
        ".macro dhn_wino_end name\n"
        ".size \\name, . - \\name\n"
        ".popsection\n"
        ".endm\n");

/* 11 instructions for 16 products. No register is left to count pairs: the unrolled code is entered, by way of a pointer
 * on the stack, as far before its end as pairs remain; Z, which nothing else changes, says that all of it follows again.
 * dhn_wino_entry: n - 1 pairs of `bytes` code each as an entry point and the first branch to [sp], the end to [sp, #8]. */
__asm__(".macro dhn_wino_entry n, bytes\n"
        "sub \\n, \\n, #1\n"
        "and r4, \\n, #15\n"
        "mov r5, #\\bytes\n"
        "mul r4, r4, r5\n"
        "adr.w r5, 2f\n"
        "sub r4, r5, r4\n"
        "orr r4, r4, #1\n"
        "adr.w r5, 4f\n"
        "orr r5, r5, #1\n"
        "cmp \\n, #16\n"
        "it lo\n"
        "movlo r5, r4\n"
        "push {r4, r5}\n"
        "cmp r0, #0\n" /* not zero */
        ".endm\n"
        ".macro dhn_wino_sums_loop\n"
        "ldr pc, [sp, #4]\n"
        "4: cmp r0, r0\n"
        "ldr pc, [sp]\n"
        "3:\n"
        ".endm\n"
        ".macro dhn_wino_sums_end\n"
        "2: beq 5f\n"
        "stm r0!, {r4-r11}\n"
        "ldr lr, [sp, #8]\n"
        "cmp r0, lr\n"
        "bne 1b\n"
        "add sp, sp, #12\n"
        "pop {r4-r11, pc}\n"
        "5: cmp r0, #0\n"
        "b 3b\n"
        ".endm\n"
        "dhn_wino_begin dhn_wino_sums\n"
        "push {r3-r11, lr}\n"
        "dhn_wino_entry r2, 44\n"
        "1: ldrd r2, r3, [r0], #8\n"
        "ldrd r12, lr, [r1], #8\n"
        "smuad r4, r12, r2\n"
        "smuad r5, lr, r2\n"
        "smuad r8, r12, r3\n"
        "smuad r9, lr, r3\n"
        "ldrd r12, lr, [r1], #8\n"
        "smuad r6, r12, r2\n"
        "smuad r7, lr, r2\n"
        "smuad r10, r12, r3\n"
        "smuad r11, lr, r3\n"
        "dhn_wino_sums_loop\n"
        ".rept 16\n"
        "ldrd r2, r3, [r0], #8\n"
        "ldrd r12, lr, [r1], #8\n"
        "smlad r4, r12, r2, r4\n"
        "smlad r5, lr, r2, r5\n"
        "smlad r8, r12, r3, r8\n"
        "smlad r9, lr, r3, r9\n"
        "ldrd r12, lr, [r1], #8\n"
        "smlad r6, r12, r2, r6\n"
        "smlad r7, lr, r2, r7\n"
        "smlad r10, r12, r3, r10\n"
        "smlad r11, lr, r3, r11\n"
        ".endr\n"
        "dhn_wino_sums_end\n"
        "dhn_wino_end dhn_wino_sums\n");

/* 10 instructions for 16 products: one pointer less. */
__asm__("dhn_wino_begin dhn_wino_sums_inside\n"
        "push {r2, r4-r11, lr}\n"
        "dhn_wino_entry r1, 40\n"
        "1: ldm r0!, {r1-r3, r12, lr}\n"
        "smuad r4, r1, lr\n"
        "smuad r5, r2, lr\n"
        "smuad r6, r3, lr\n"
        "smuad r7, r12, lr\n"
        "ldr lr, [r0], #4\n"
        "smuad r8, r1, lr\n"
        "smuad r9, r2, lr\n"
        "smuad r10, r3, lr\n"
        "smuad r11, r12, lr\n"
        "dhn_wino_sums_loop\n"
        ".rept 16\n"
        "ldm r0!, {r1-r3, r12, lr}\n"
        "smlad r4, r1, lr, r4\n"
        "smlad r5, r2, lr, r5\n"
        "smlad r6, r3, lr, r6\n"
        "smlad r7, r12, lr, r7\n"
        "ldr lr, [r0], #4\n"
        "smlad r8, r1, lr, r8\n"
        "smlad r9, r2, lr, r9\n"
        "smlad r10, r3, lr, r10\n"
        "smlad r11, r12, lr, r11\n"
        ".endr\n"
        "dhn_wino_sums_end\n"
        "dhn_wino_end dhn_wino_sums_inside\n");

#endif
