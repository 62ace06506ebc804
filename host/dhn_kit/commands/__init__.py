"""What the command line does, one module per group of commands; nothing but the command line imports these."""
# SPDX-License-Identifier: Apache-2.0
