/* Stub of Mbed OS's drivers/FlashIAP.h for compile tests, with what hal/flash_api.h says of GCC's programs. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FLASHIAP_H
#define FLASHIAP_H

#include <stdint.h>

extern "C" uint32_t __etext, __data_start__, __data_end__;
#define FLASHIAP_APP_ROM_END_ADDR (((uint32_t)&__etext) + ((uint32_t)&__data_end__) - ((uint32_t)&__data_start__))

namespace mbed
{
class FlashIAP
{
  public:
    int init();
    int deinit();
    int read(void *buffer, uint32_t addr, uint32_t size);
    int program(const void *buffer, uint32_t addr, uint32_t size);
    int erase(uint32_t addr, uint32_t size);
    uint32_t get_page_size() const;
    uint32_t get_sector_size(uint32_t addr) const;
    uint32_t get_flash_start() const;
    uint32_t get_flash_size() const;
};
} // namespace mbed

#endif
