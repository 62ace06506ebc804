/* Start-up and traps on QEMU's RISC-V virt machine. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

#include "hal.h"

/* Of rv32virt.ld. */
extern uint32_t data_load, data_start, data_end, bss_start, bss_end;

int main(int argc, char **argv);
void rv32_start(void) __attribute__((noreturn));

/* Interrupts stay masked (hal_idle only waits for them), so whatever arrives at the trap vector is a fault. */
__asm(".section .start, \"ax\"\n"
      ".globl start_reset\n"
      "start_reset:\n"
      "    csrw mie, zero\n"
      "    la sp, stack_top\n"
      "    la t0, trap\n"
      "    csrw mtvec, t0\n"
      "    j rv32_start\n"
      "    .balign 4\n"
      "trap:\n"
      "    la sp, stack_top\n"
      "    j hal_reset\n"
      "    .text\n");

void rv32_start(void)
{
    memcpy(&data_start, &data_load, (size_t)((uintptr_t)&data_end - (uintptr_t)&data_start));
    memset(&bss_start, 0, (size_t)((uintptr_t)&bss_end - (uintptr_t)&bss_start));
    (void)main(0, NULL);
    hal_reset();
}
