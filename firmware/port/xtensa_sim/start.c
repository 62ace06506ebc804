/* Start-up and exceptions on QEMU's Xtensa sim machine with an LX106. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

#include "hal.h"

/* Of xtensa_sim.ld. */
extern uint32_t data_load, data_start, data_end, bss_start, bss_end;

int main(int argc, char **argv);
void xtensa_start(void) __attribute__((noreturn));

/* Exception vectors of the LX106, offsets from VECBASE as QEMU's core has them: kernel 0x30, user 0x50, double 0x70. The
 * only interrupt is the cycle counter's comparator: it ends a sleep, and it comes whenever the counter's top bit changes,
 * which it counts in xtensa_halves. */
__asm(".section .rom, \"ax\"\n" /* where the core starts */
      "    j 1f\n"
      "    .literal_position\n"
      "    .align 4\n"
      "1:  movi a2, start_reset\n"
      "    jx a2\n"
      "    .section .vectors, \"ax\"\n"
      "vectors:\n"
      "    .org 0x30\n"
      "    j exception\n"
      "    .org 0x50\n"
      "    j exception\n"
      "    .org 0x70\n"
      "    j fault\n"
      "    .org 0x80\n"
      "    .literal_position\n"
      "    .align 4\n"
      "exception:\n"
      "    wsr a2, excsave1\n"
      "    rsr a2, exccause\n"
      "    bnei a2, 4, fault\n" /* 4: level-1 interrupt */
      "    movi a2, xtensa_halves\n"
      "    s32i a3, a2, 4\n"
      "    s32i a4, a2, 8\n"
      "    rsr a3, ccount\n"
      "    extui a3, a3, 31, 1\n"
      "    l32i a4, a2, 0\n"
      "    xor a3, a3, a4\n"
      "    extui a3, a3, 0, 1\n"
      "    add a4, a4, a3\n" /* one more if parity and top bit differ */
      "    s32i a4, a2, 0\n"
      "    movi a3, 1\n"
      "    xor a4, a4, a3\n"
      "    slli a4, a4, 31\n"
      "    wsr a4, ccompare0\n" /* the next change of the top bit; writing takes the request back */
      "    esync\n"
      "    l32i a3, a2, 4\n"
      "    l32i a4, a2, 8\n"
      "    rsr a2, excsave1\n"
      "    rfe\n"
      "    .align 4\n"
      "fault:\n"
      "    movi a1, stack_top\n"
      "    call0 hal_reset\n"
      "    .global start_reset\n"
      "    .align 4\n"
      "start_reset:\n"
      "    movi a2, 0x1F\n" /* interrupts off */
      "    wsr a2, ps\n"
      "    rsync\n"
      "    movi a2, 0\n"
      "    wsr a2, intenable\n"
      "    movi a2, vectors\n"
      "    wsr a2, vecbase\n"
      "    rsync\n"
      "    movi a1, stack_top\n"
      "    call0 xtensa_start\n"
      "    .text\n");

void xtensa_start(void)
{
    memcpy(&data_start, &data_load, (size_t)((uintptr_t)&data_end - (uintptr_t)&data_start));
    memset(&bss_start, 0, (size_t)((uintptr_t)&bss_end - (uintptr_t)&bss_start));
    (void)main(0, NULL);
    hal_reset();
}
