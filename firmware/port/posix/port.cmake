# The firmware as a process of this computer.
include(${CMAKE_CURRENT_LIST_DIR}/../common/nor_flash.cmake)
