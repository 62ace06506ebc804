# The firmware as a process of this computer.
target_compile_definitions(firmware PRIVATE POSIX_FLASH_BYTES=${DHN_FLASH_BYTES} POSIX_FLASH_PAGE=${DHN_FLASH_PAGE})
