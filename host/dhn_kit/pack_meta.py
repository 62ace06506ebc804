"""What the host knows of a packed network, as the JSON of a .dhn file's trailer."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dhn_kit.graph import Port, Quant, Tensor
from dhn_kit.hooks import HookPoint

if TYPE_CHECKING:
    from dhn_kit.pack import Pack


@dataclass(frozen=True)
class OpInfo:
    """One operator of the packed program, in program order; what reports and cost models read."""

    name: str
    op: str
    kernel: str
    node: int
    macs: int
    outputs: int
    #: bytes of constants and of scratch, what the board was predicted to take, and (kernel, why not) of the others
    flash: int = 0
    scratch: int = 0
    instructions: float = 0.0
    cycles: float = 0.0
    others: tuple[tuple[str, str], ...] = ()
    #: it runs only while this variant of its group is selected; group 0: always
    group: int = 0
    variant: int = 0


def to_meta(pack: Pack) -> dict[str, Any]:
    """The trailer's JSON value."""
    return {
        "name": pack.name,
        "source": pack.source,
        "inputs": [vars(p) for p in pack.inputs],
        "outputs": [vars(p) for p in pack.outputs],
        "tensors": {k: [list(t.shape), _quant_json(t.quant)] for k, t in pack.tensors.items()},
        "offsets": pack.offsets,
        "lifetimes": pack.lifetimes,
        "ops": [vars(o) for o in pack.ops],
        "points": [{**vars(p), "tap_quant": _quant_json(p.tap_quant)} for p in pack.points],
        "steps": pack.steps,
        "arena_lower_bound": pack.arena_lower_bound,
        "arena_proven": pack.arena_proven,
        "extra": pack.extra,
    }


def from_meta(meta: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `pack.Pack`, all but ``data``, from what `to_meta` gave. Takes ``meta`` apart."""
    return {
        "name": meta["name"],
        "inputs": [_port(p) for p in meta["inputs"]],
        "outputs": [_port(p) for p in meta["outputs"]],
        "tensors": {k: Tensor(k, (s[0], s[1], s[2]), _quant_of(q)) for k, (s, q) in meta["tensors"].items()},
        "offsets": meta["offsets"],
        "lifetimes": {k: (v[0], v[1], v[2]) for k, v in meta["lifetimes"].items()},
        "ops": [_op_info(o) for o in meta["ops"]],
        "points": [_hook_point(p) for p in meta["points"]],
        "steps": [(kind, index) for kind, index in meta["steps"]],
        "arena_lower_bound": meta["arena_lower_bound"],
        "source": meta["source"],
        "extra": meta["extra"],
        "arena_proven": meta.get("arena_proven", False),
    }


def _quant_json(quant: Quant | None) -> list[float] | None:
    return None if quant is None else [quant.scale, quant.zero_point]


def _quant_of(value: list[float] | None) -> Quant | None:
    return None if value is None else Quant(float(value[0]), int(value[1]))


def _port(value: dict[str, Any]) -> Port:
    value["user_shape"] = tuple(value["user_shape"])
    value["perm"] = None if value["perm"] is None else tuple(value["perm"])
    return Port(**value)


def _op_info(value: dict[str, Any]) -> OpInfo:
    value["others"] = tuple((kernel, why) for kernel, why in value.get("others", ()))
    return OpInfo(**value)


def _hook_point(value: dict[str, Any]) -> HookPoint:
    for key in ("tap_shape", "window", "feature_shape"):
        value[key] = tuple(value[key])
    value["tap_quant"] = _quant_of(value["tap_quant"])
    value["skip"] = None if value["skip"] is None else tuple(value["skip"])
    return HookPoint(**value)
