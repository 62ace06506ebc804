/* The line over the chip's own USB (S3, C3 and later), by ESP-IDF's driver. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "line.h"

#if defined(DHN_USB_SERIAL)

#include <stdbool.h> /* which the driver's header does not include */

#include <driver/usb_serial_jtag.h>
#include <freertos/FreeRTOS.h>

enum { OUT_ROOM = 1024 };

void line_start(void)
{
    usb_serial_jtag_driver_config_t config = {.tx_buffer_size = OUT_ROOM, .rx_buffer_size = LINE_ROOM};
    ESP_ERROR_CHECK(usb_serial_jtag_driver_install(&config));
}

size_t line_read(uint8_t *to, size_t capacity, uint32_t wait_ms)
{
    int const count = usb_serial_jtag_read_bytes(to, (uint32_t)capacity, pdMS_TO_TICKS(wait_ms));
    return count > 0 ? (size_t)count : 0u;
}

void line_write(const uint8_t *from, size_t bytes)
{
    while (bytes > 0) {
        size_t const part = bytes < OUT_ROOM / 2 ? bytes : OUT_ROOM / 2; /* more than the buffer is never taken */
        if (usb_serial_jtag_write_bytes(from, part, pdMS_TO_TICKS(LINE_PATIENCE_MS)) != (int)part)
            return;
        from += part;
        bytes -= part;
    }
}

void line_flush(void)
{
}

int line_set_baud(uint32_t baud)
{
    (void)baud;
    return 0; /* USB has no speed to set */
}

#endif
