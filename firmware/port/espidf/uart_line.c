/* The line over a UART, by ESP-IDF's driver. DHN_UART, DHN_UART_TX and DHN_UART_RX choose another than UART 0. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "line.h"

#if !defined(DHN_USB_SERIAL)

#include <driver/uart.h>
#include <freertos/FreeRTOS.h>

#ifndef DHN_UART
#define DHN_UART UART_NUM_0
#endif
#ifndef DHN_UART_TX /* pins as the chip's start-up leaves them */
#define DHN_UART_TX UART_PIN_NO_CHANGE
#define DHN_UART_RX UART_PIN_NO_CHANGE
#endif

void line_start(void)
{
    const uart_config_t config = {
        .baud_rate = (int)APP_BAUD,
        .data_bits = UART_DATA_8_BITS,
        .parity = UART_PARITY_DISABLE,
        .stop_bits = UART_STOP_BITS_1,
        .flow_ctrl = UART_HW_FLOWCTRL_DISABLE,
        .source_clk = UART_SCLK_DEFAULT,
    };
    ESP_ERROR_CHECK(uart_driver_install(DHN_UART, LINE_ROOM, 0, 0, NULL, 0));
    ESP_ERROR_CHECK(uart_param_config(DHN_UART, &config));
    ESP_ERROR_CHECK(uart_set_pin(DHN_UART, DHN_UART_TX, DHN_UART_RX, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE));
}

size_t line_read(uint8_t *to, size_t capacity, uint32_t wait_ms)
{
    size_t there = 0;
    (void)uart_get_buffered_data_len(DHN_UART, &there);
    if (there > capacity)
        there = capacity;
    if (there == 0 && wait_ms > 0)
        there = 1;
    int const count = there == 0 ? 0 : uart_read_bytes(DHN_UART, to, (uint32_t)there, pdMS_TO_TICKS(wait_ms));
    return count > 0 ? (size_t)count : 0u;
}

void line_write(const uint8_t *from, size_t bytes)
{
    (void)uart_write_bytes(DHN_UART, from, bytes); /* without a buffer of its own it waits for the hardware's */
}

void line_flush(void)
{
    (void)uart_wait_tx_done(DHN_UART, pdMS_TO_TICKS(LINE_PATIENCE_MS));
}

int line_set_baud(uint32_t baud)
{
    return uart_set_baudrate(DHN_UART, baud) == ESP_OK ? 0 : -1;
}

#endif
