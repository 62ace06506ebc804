/* The application as ESP-IDF's main task. */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "app.h"

void app_main(void);

void app_main(void)
{
    app_start(0, NULL);
    for (;;)
        app_step();
}
