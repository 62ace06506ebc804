"""Identifies what host and compiled twin have agreed on: records, structures and the list of kernels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib

from dhn_kit import resources


def interface() -> str:
    """32 hexadecimal digits over the runtime's headers and every ``kernels.toml``, which travel with the package."""
    runtime, kernels = resources.path("firmware") / "runtime", resources.path("mcu_kernels")
    files = [*sorted(runtime.glob("*.h")), kernels / "dhn_kernels.h", *sorted(kernels.glob("*/kernels.toml"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(resources.root()).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:32]
