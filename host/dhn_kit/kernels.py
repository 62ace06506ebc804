"""Which kernels exist, read from the kernels.toml of each architecture folder, and which one a node gets."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass

from dhn_kit import resources
from dhn_kit.errors import DhnError


@dataclass(frozen=True)
class Kernel:
    """``op`` is what it computes: a canonical op, or "copy" or "fill"."""

    name: str
    op: str
    id: int
    arch: str
    source: str
    in_place: bool = False


@functools.cache
def load_kernels(arch: str = "ref") -> dict[str, Kernel]:
    """Kernels of one architecture by op."""
    path = resources.path("mcu_kernels") / arch / "kernels.toml"
    if not path.is_file():
        raise DhnError(f"no kernels for architecture '{arch}': {path} does not exist; use 'ref'")
    table = tomllib.loads(path.read_text())
    return {k["op"]: Kernel(arch=table["arch"], **k) for k in table["kernel"]}


def kernel_by_id(arch: str = "ref") -> dict[int, Kernel]:
    return {k.id: k for k in load_kernels(arch).values()}
