/* The HAL's flash on families whose flash is read as memory. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "mapped_flash.h"

#include <string.h>

#include "family.h"
#include "parts.h"
#include "hal.h"

#if defined(FAMILY_HAS_MAPPED_FLASH)

static struct {
    const uint8_t *memory; /* NULL: hooks cannot be kept */
    uint32_t unit;
} area;

/* Rather no hooks than a damaged program, or an erase that takes more than it should. */
void flash_start(void)
{
    mapped_flash_t const flash = mapped_flash_open();
#ifdef DHN_FLASH_BASE
    uintptr_t const start = DHN_FLASH_BASE;
#else
    uintptr_t const start = flash.otherwise;
#endif
    bool const room = start >= flash.free_from && flash.page == DHN_FLASH_PAGE && start % DHN_FLASH_PAGE == 0;
    area.memory = room && flash.unit <= MAPPED_UNIT_MOST ? reinterpret_cast<const uint8_t *>(start) : nullptr;
    area.unit = flash.unit;
#if defined(FAMILY_FAULTS_ON_TORN_FLASH)
    if (area.memory != nullptr)
        mapped_flash_heal(area.memory);
#endif
}

uint32_t hal_flash_bytes(void)
{
    return area.memory == nullptr ? 0u : static_cast<uint32_t>(DHN_FLASH_BYTES);
}

uint32_t hal_flash_page_bytes(void)
{
    return DHN_FLASH_PAGE;
}

const uint8_t *hal_flash(void)
{
    return area.memory;
}

int hal_flash_erase(uint32_t page_offset)
{
    if (page_offset % DHN_FLASH_PAGE != 0 || page_offset >= hal_flash_bytes())
        return -1;
    return mapped_flash_erase(area.memory + page_offset);
}

/* Programs the part of `from` that lies in the unit at `start`. Bits that are 1 leave the flash alone, so a unit that is
 * larger than what is asked for is filled up with ones. A unit that would not change is left out: flash wears out, and
 * some takes only so many programs of one word between erases. */
static int program_unit(uint32_t start, uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    uint8_t unit[MAPPED_UNIT_MOST];
    bool changes = false;
    for (uint32_t i = 0; i < area.unit; i++) {
        uint32_t const at = start + i;
        bool const asked = at >= offset && at - offset < bytes;
        unit[i] = asked ? from[at - offset] : static_cast<uint8_t>(0xFF);
        changes = changes || (area.memory[at] & static_cast<uint8_t>(~unit[i])) != 0;
    }
    return changes ? mapped_flash_program(area.memory + start, unit) : 0;
}

int hal_flash_program(uint32_t offset, const void *from, uint32_t bytes)
{
    if (offset > hal_flash_bytes() || bytes > hal_flash_bytes() - offset)
        return -1;
    for (uint32_t start = offset / area.unit * area.unit; start < offset + bytes; start += area.unit) {
        int const status = program_unit(start, offset, static_cast<const uint8_t *>(from), bytes);
        if (status != 0)
            return status;
    }
    return 0;
}

#endif
