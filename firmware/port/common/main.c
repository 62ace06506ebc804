/* The application as a program of its own, for platforms that call main. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "app.h"

int main(int argc, char **argv)
{
    app_start(argc, argv);
    for (;;)
        app_step();
}
