"""Finds the folders that travel with the package: kernels, firmware, templates, boards and the zoo."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dhn_kit.errors import DhnError

Kind = Literal["mcu_kernels", "firmware", "templates", "boards", "zoo", "cmake", "CMakeLists.txt", "LICENSE"]

PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The folder that holds them all: the repository in a checkout, ``dhn_kit/_data`` in an installed wheel."""
    checkout = PACKAGE.parents[1]
    if PACKAGE.parent.name == "host" and (checkout / "pyproject.toml").is_file():
        return checkout
    return PACKAGE / "_data"


def path(kind: Kind) -> Path:
    """Where ``kind`` is. DhnError if the installation lacks it."""
    found = root() / kind
    if not found.exists():
        raise DhnError(
            f"{found} is missing from this installation; install again with 'pip install --force-reinstall dhn-kit'"
        )
    return found
