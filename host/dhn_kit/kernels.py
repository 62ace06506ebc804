"""Which kernels exist, read from the kernels.toml of each architecture folder, and what each of them covers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dhn_kit import expressions, records, resources
from dhn_kit.errors import DhnError


@dataclass(frozen=True)
class Kernel:
    """``op`` is what it computes: a canonical op, or "copy" or "fill". Expressions are over its record's fields.

    ``condition`` empty: every shape that import accepts. ``consts``: bytes of each constant field, where they differ
    from the operator's own. ``lead``: the output may overlap the first input when it lies at least so many bytes
    below it. ``in_place``: the output may be the very bytes of an input. ``work``: how often its loops run, for the
    latency model (over the record's fields and `latency.derived`), in the file the name of a list in its table
    ``loops``; empty: the fit finds out by itself. ``hooks``: linked into every firmware of the architecture, so that a
    bundle that is trained later finds it; ``hook_kinds``: into those whose pack was made for one of these kinds.
    ``sparse``: leaves out products with zeros; chosen only where the share of zeros is known.
    """

    name: str
    op: str
    id: int
    arch: str
    source: str
    in_place: bool = False
    condition: str = ""
    scratch: str = "0"
    layout: str = "tflite"
    consts: Mapping[str, str] = field(default_factory=dict, hash=False)
    lead: str | None = None
    work: tuple[str, ...] = ()
    hooks: bool = False
    hook_kinds: tuple[str, ...] = ()
    sparse: bool = False

    @property
    def record(self) -> records.Record:
        return records.PARAMS[self.id >> 8]

    def covers(self, values: Mapping[str, Any]) -> bool:
        """Whether the condition admits an op with these record fields."""
        return not self.condition or bool(expressions.evaluate(self.condition, _integers(values)))

    def scratch_bytes(self, values: Mapping[str, Any]) -> int:
        return expressions.evaluate(self.scratch, _integers(values))

    def lead_bytes(self, values: Mapping[str, Any]) -> int | None:
        """None: the output must lie apart from the input."""
        return None if self.lead is None else max(0, expressions.evaluate(self.lead, _integers(values)))

    def const_bytes(self, values: Mapping[str, Any]) -> dict[str, int]:
        """What `consts` says, by field."""
        return {name: expressions.evaluate(text, _integers(values)) for name, text in self.consts.items()}

    @property
    def plain(self) -> bool:
        """Whether the loader's checks of the operator are enough, as they are for the reference."""
        return not self.condition and not self.consts and self.scratch == "0"


def _integers(values: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in values.items() if not isinstance(value, tuple | list | str)}


@dataclass(frozen=True)
class Architecture:
    """A folder of mcu_kernels. ``fallback`` is the folder whose kernels do what this one's do not; empty: none."""

    name: str
    flavour: int
    fallback: str
    kernels: tuple[Kernel, ...]


def list_architectures() -> list[str]:
    return sorted(p.parent.name for p in resources.path("mcu_kernels").glob("*/kernels.toml"))


@functools.cache
def load_architecture(name: str) -> Architecture:
    path = resources.path("mcu_kernels") / name / "kernels.toml"
    if not path.is_file():
        known = ", ".join(list_architectures())
        raise DhnError(f"no kernels for architecture '{name}': {path} does not exist; there are {known}")
    table = tomllib.loads(path.read_text())
    loops = {name: tuple(terms) for name, terms in table.get("loops", {}).items()}
    entries = [
        {**k, "work": loops[k["work"]] if "work" in k else (), "hook_kinds": tuple(k.get("hook_kinds", ()))}
        for k in table.get("kernel", ())
    ]
    kernels = tuple(Kernel(arch=table["arch"], **k) for k in entries)
    return Architecture(table["arch"], table["flavour"], table.get("fallback", ""), kernels)


def chain(arch: str) -> Iterator[Architecture]:
    """The architecture, then what it falls back to, the reference last."""
    while arch:
        found = load_architecture(arch)
        yield found
        arch = found.fallback


@functools.cache
def load_kernels(arch: str = "ref") -> tuple[Kernel, ...]:
    """Every kernel that a core of this architecture can run, its own first."""
    return tuple(k for a in chain(arch) for k in a.kernels)


def hook_kernels(arch: str) -> tuple[Kernel, ...]:
    """What a hook bundle for this architecture may name."""
    return tuple(k for k in load_kernels(arch) if k.hooks)


def kernels_for_kinds(arch: str, kinds: Iterable[str]) -> tuple[Kernel, ...]:
    """What a pack made for these kinds of hooks links beside `hook_kernels`."""
    return tuple(k for k in load_kernels(arch) if not k.hooks and set(k.hook_kinds) & set(kinds))


@functools.cache
def architecture_of(flavour: int) -> str:
    """The architecture that a pack's header names. DhnError for a number that this version does not know."""
    for name in list_architectures():
        if load_architecture(name).flavour == flavour:
            return name
    raise DhnError(f"kernel flavour {flavour} is unknown to this version; pack the network again")


@functools.cache
def reference_kernels() -> dict[str, Kernel]:
    """The kernel by op that covers every shape."""
    return {k.op: k for k in load_architecture("ref").kernels}


@functools.cache
def all_kernels() -> dict[int, Kernel]:
    """Every kernel of every architecture by id, as the host twin links them."""
    found = [k for name in list_architectures() for k in load_architecture(name).kernels]
    assert len({k.id for k in found}) == len(found), "two kernels share an id"
    return {k.id: k for k in sorted(found, key=lambda k: k.id)}


@functools.cache
def all_by_name() -> dict[str, Kernel]:
    return {k.name: k for k in all_kernels().values()}
