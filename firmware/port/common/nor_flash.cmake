# The flash driver that emulated boards share. DHN_FLASH_BYTES (both slots) and DHN_FLASH_PAGE come from the board's file.
target_sources(firmware PRIVATE ${CMAKE_CURRENT_LIST_DIR}/nor_flash.c)
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/nor_flash.c PROPERTIES COMPILE_OPTIONS -Os)
target_include_directories(firmware PRIVATE ${CMAKE_CURRENT_LIST_DIR})
target_compile_definitions(firmware PRIVATE NOR_FLASH_BYTES=${DHN_FLASH_BYTES}u NOR_FLASH_PAGE=${DHN_FLASH_PAGE}u)
