# The module as a user C module of ports that are built with make: make USER_C_MODULES=PARENT_FOLDER.
# SPDX-License-Identifier: Apache-2.0
DHN_DIR := $(USERMOD_DIR)
SRC_USERMOD_C += $(wildcard $(DHN_DIR)/*.c) $(wildcard $(DHN_DIR)/*/*.c)
CFLAGS_USERMOD += -I$(DHN_DIR) -fwrapv
