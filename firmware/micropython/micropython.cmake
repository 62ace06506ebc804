# The module as a user C module: make USER_C_MODULES=FOLDER/micropython.cmake (written by 'dhn-kit export').
# SPDX-License-Identifier: Apache-2.0
file(GLOB DHN_SOURCES ${CMAKE_CURRENT_LIST_DIR}/*.c ${CMAKE_CURRENT_LIST_DIR}/*/*.c)
add_library(usermod_dhn INTERFACE)
target_sources(usermod_dhn INTERFACE ${DHN_SOURCES})
target_include_directories(usermod_dhn INTERFACE ${CMAKE_CURRENT_LIST_DIR})
set_source_files_properties(${DHN_SOURCES} PROPERTIES COMPILE_OPTIONS "-O2;-fwrapv")
target_link_libraries(usermod INTERFACE usermod_dhn)
