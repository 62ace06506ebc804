/* What newlib's semihosting start-up lacks on a Cortex-M: the vector table. */
/* SPDX-License-Identifier: Apache-2.0 */
extern char stack_top[];
void _start(void);

static void stop(void)
{
    for (;;) {
    }
}

__attribute__((used, section(".vectors"))) static const void *const vectors[16] = {
    stack_top,
    (const void *)_start,
    (const void *)stop,
    (const void *)stop,
};
