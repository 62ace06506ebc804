"""Writes the host twin's list of kernels; the build calls it with the file to write."""
# SPDX-License-Identifier: Apache-2.0

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

from dhn_kit.c_text import render
from dhn_kit.interface import interface
from dhn_kit.kernels import all_kernels

kernels = list(all_kernels().values())
names = {"prefix": "twin", "header": "twin_registry.h", "interface": interface()}
Path(sys.argv[1]).write_text(render("kernel_registry.c.j2", kernels=kernels, **names))
