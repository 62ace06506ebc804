"""Places a lowered network in memory and writes the .dhn bytes; reads them back."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dhn_kit import records, trailer
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph, Port, Tensor
from dhn_kit.hookpoints import find_points
from dhn_kit.hooks import KEEP_BYTES, PACKED_KINDS, HookPoint
from dhn_kit.kernels import kernels_for_kinds, load_architecture
from dhn_kit.latency import LatencyModel
from dhn_kit.lower import Lowered, Op, Operand, alternatives, lower
from dhn_kit.memory import (
    KEEP,
    Memory,
    Steps,
    mask_name,
    op_scratch,
    place,
    root,
    scratch_name,
    steps_of,
)
from dhn_kit.pack_meta import OpInfo, from_meta, to_meta
from dhn_kit.patch import patch
from dhn_kit.records import ConstPool
from dhn_kit.schedule import reorder
from dhn_kit.selections import Selection, add_bits, add_small, narrow_kernels
from dhn_kit.strategy import Choice, Policy, choose
from dhn_kit.variants import Gates, add_variants, next_group, paying


@dataclass
class Pack:
    """A packed main network. ``data`` are the device's bytes; the rest is what the host knows about them."""

    data: bytes
    name: str
    inputs: list[Port]
    outputs: list[Port]
    tensors: dict[str, Tensor]
    #: arena offset of every tensor (temporaries and reshaped views included) and hook scratch
    offsets: dict[str, int]
    #: live steps [start, end) and bytes of every buffer, for the memory picture: name -> (start, end, bytes)
    lifetimes: dict[str, tuple[int, int, int]]
    ops: list[OpInfo]
    points: list[HookPoint]
    #: program step of every op and point, in order: ("op", number) or ("point", index)
    steps: Steps
    arena_lower_bound: int
    source: str = "onnx"
    extra: dict[str, Any] = field(default_factory=dict)
    #: whether no plan of this program can be smaller
    arena_proven: bool = False
    #: what was written; not kept in files
    lowered: Lowered | None = field(default=None, compare=False, repr=False)

    @property
    def header(self) -> dict[str, Any]:
        return records.HEADER.unpack(self.data)

    @property
    def hash(self) -> str:
        return bytes(self.header["hash"]).hex()

    @property
    def arena_bytes(self) -> int:
        return int(self.header["arena_bytes"])

    @property
    def full_run(self) -> list[OpInfo]:
        """The operators that run with hooks detached: one of each group's variants."""
        return [op for op in self.ops if op.variant == 0]

    @property
    def gates(self) -> list[Gates]:
        """What masks can leave out, in program order."""
        return [Gates(**{**g, "tensors": tuple(g["tensors"])}) for g in self.extra.get("gates", ())]

    @property
    def selections(self) -> list[Selection]:
        """Between what hooks can select, in program order."""
        return [Selection(**{**s, "layers": tuple(s["layers"])}) for s in self.extra.get("selections", ())]

    def save(self, path: Path) -> None:
        """Device bytes plus trailer, written whole or not at all."""
        trailer.save(path, self.data, to_meta(self))

    def graph(self) -> Graph:
        """Ports and tensors without nodes: enough to quantise inputs and dequantise outputs."""
        return Graph(self.name, self.tensors, [], self.inputs, self.outputs, self.source)


def pack(
    graph: Graph,
    arch: str = "ref",
    points: list[HookPoint] | None = None,
    hooks: bool | Collection[str] = True,
    *,
    latency: LatencyModel | None = None,
    policy: Policy | None = None,
    bands: int = 0,
    keep: int = KEEP_BYTES,
    narrow: Graph | None = None,
    small: Graph | None = None,
) -> Pack:
    """Pack a quantised graph for a kernel architecture: lower, order, choose kernels, plan, write.

    ``hooks`` names the kinds that need something in the pack (`hooks.PACKED_KINDS`): kernels that bundles may name, or
    variants of layers. False leaves hook points out (for comparison only). ``latency`` is the board's; without it a
    coarse rule guesses which kernels are the fast ones. ``bands`` runs the first operators in so many bands of rows
    (`patch`); DhnError if that saves nothing. ``keep``: arena bytes that hooks own from run to run. ``narrow``: the
    same network with narrower weights in the layers between whose versions hooks of kind "bits" select. ``small``:
    another network with the same input and output, which one of kind "select" may run instead.
    """
    kinds = _kinds(hooks)
    if points is None:
        points = find_points(graph) if hooks is not False else []
    lowered, gates = add_variants(reorder(lower(graph), points), points, kinds)
    selections: list[Selection] = []
    if narrow is not None:
        lowered, selections = add_bits(lowered, narrow, points)
        policy = policy and dataclasses.replace(policy, kernels=narrow_kernels(policy.kernels, lowered))
    if small is not None:
        lowered, more = add_small(lowered, small, points)
        selections += more
    made = _Made(
        arch, latency, policy, kinds, max(keep, records.ENVIRONMENT), tuple(gates), selections=tuple(selections)
    )
    plain = _packed(lowered, points, made)
    if not bands:
        return plain
    assert plain.lowered is not None
    found = [(p, _packed(p.lowered, p.points, made)) for p in patch(plain.lowered, points, bands)]
    least = min((packed.arena_bytes for _, packed in found), default=plain.arena_bytes)
    if least >= plain.arena_bytes:
        raise DhnError(f"'{graph.name}' needs no less RAM in {bands} bands; try another number, or none")
    fitting = [f for f in found if f[1].arena_bytes <= min(NEARLY * least, plain.arena_bytes - 1)]
    patched, best = min(fitting, key=lambda f: f[0].macs_after)
    facts = {name: getattr(patched, name) for name in ("bands", "ops", "macs_before", "macs_after")}
    best.extra["patch"] = {**facts, "arena_before": plain.arena_bytes}
    return best


@dataclass(frozen=True)
class _Made:
    """For what a pack is made."""

    arch: str
    latency: LatencyModel | None = None
    policy: Policy | None = None
    kinds: tuple[str, ...] = ()
    keep: int = KEEP_BYTES
    gates: tuple[Gates, ...] = ()
    selections: tuple[Selection, ...] = ()


def _kinds(hooks: bool | Collection[str]) -> tuple[str, ...]:
    wanted = () if isinstance(hooks, bool) else tuple(hooks)
    unknown = [k for k in wanted if k not in PACKED_KINDS]
    if unknown:
        raise DhnError(f"no pack is made for hooks of kind '{unknown[0]}'; choose from {', '.join(PACKED_KINDS)}")
    return tuple(k for k in PACKED_KINDS if k in wanted)


def _packed(lowered: Lowered, points: list[HookPoint], made: _Made) -> Pack:
    graph = lowered.graph
    lowered, choices = choose(lowered, made.arch, made.latency, made.policy, points)
    paid, gates = paying(lowered, made.gates, made.latency or LatencyModel())
    if len(paid.ops) < len(lowered.ops):
        lowered, choices = choose(paid, made.arch, made.latency, made.policy, points)
    steps = steps_of(lowered, points)
    masks, used = _mask_places(gates)
    memory = place(lowered, points, steps, max(made.keep, used))
    memory.offsets.update({name: memory.offsets[KEEP] + at for name, at in masks.items()})
    flavour = load_architecture(made.arch).flavour
    linked = [k.id for k in kernels_for_kinds(made.arch, made.kinds)] if points else []
    data = write_main(lowered, points, steps, memory, flavour=flavour, linked=linked)
    ops = [_op_info(o, c) for o, c in zip(lowered.ops, choices, strict=True)]
    return Pack(
        data,
        graph.name,
        graph.inputs,
        graph.outputs,
        lowered.tensors,
        memory.offsets,
        memory.lifetimes,
        ops,
        points,
        steps,
        memory.lower_bound,
        graph.source,
        {
            **_writers(lowered),
            "kinds": list(made.kinds),
            "latency": made.latency.board if made.latency else "",
            "gates": [dataclasses.asdict(g) for g in gates],
            "keep_used": used,
            "nonzero": _nonzero(lowered, made.policy),
            "selections": [dataclasses.asdict(s) for s in made.selections],
        },
        memory.proven_optimal,
        lowered,
    )


def _mask_places(gates: Sequence[Gates]) -> tuple[dict[str, int], int]:
    """Where in `keep` the bytes of each channel mask lie, behind the environment; and where free bytes start."""
    places, used = {}, records.ENVIRONMENT
    for g in gates:
        if g.kind == "channel":
            places[mask_name(g.group)] = used
            used += -(-g.count // 4) * 4
    return places, used


def _nonzero(lowered: Lowered, policy: Policy | None) -> dict[str, dict[str, int]]:
    """Of ops whose kernel skips zeros, how many inputs it is expected to meet."""
    return {
        o.name: dict(policy.nonzero[o.name])
        for o in lowered.ops
        if policy and o.kernel.sparse and o.name in policy.nonzero
    }


def _op_info(op: Op, choice: Choice) -> OpInfo:
    return OpInfo(
        op.name,
        op.kernel.op,
        op.kernel.name,
        op.node,
        op.macs,
        op.outputs,
        choice.flash,
        choice.scratch,
        choice.instructions,
        choice.cycles,
        choice.others,
        op.group,
        op.variant,
    )


#: An arena up to so many times the smallest is taken if it needs fewer MACs.
NEARLY = 1.05
#: Numbers of bands that `pack_within` tries.
BANDS = (2, 3, 4, 6, 8, 12, 16)


def pack_within(
    graph: Graph,
    arch: str,
    ram_bytes: int,
    *,
    hooks: bool | Collection[str] = True,
    latency: LatencyModel | None = None,
    policy: Policy | None = None,
    keep: int = KEEP_BYTES,
    narrow: Graph | None = None,
    small: Graph | None = None,
) -> Pack:
    """`pack`; in the fewest bands with which the arena takes at most `ram_bytes`, if whole it takes more.

    Where no number of bands is enough, the pack with the smallest arena.
    """
    made = functools.partial(
        pack, graph, arch, hooks=hooks, latency=latency, policy=policy, keep=keep, narrow=narrow, small=small
    )
    best = made()
    for bands in BANDS:
        if best.arena_bytes <= ram_bytes:
            break
        try:
            found = made(bands=bands)
        except DhnError:
            continue
        best = min(best, found, key=lambda p: p.arena_bytes)
    return best


def _writers(lowered: Lowered) -> dict[str, dict[str, int]]:
    """``writers``: the last op that writes each tensor, views of it included; inputs have none.

    ``variant_writers``: the first one, of tensors that a variant writes.
    """
    last = {op.out.tensor: number for number, op in enumerate(lowered.ops)}
    chosen = {op.out.tensor for op in lowered.ops if op.group}
    first = {op.out.tensor: number for number, op in reversed([*enumerate(lowered.ops)])}
    tops = {name: root(lowered.aliases, name) for name in lowered.tensors}
    return {
        "writers": {name: last[top] for name, top in tops.items() if top in last},
        "variant_writers": {name: first[top] for name, top in tops.items() if top in chosen},
    }


class _Program:
    """Instruction bytes with resolved operands; offsets count from the start of the pack."""

    def __init__(self, at: int, pool: ConstPool, kernels: list[int]) -> None:
        self.at = at
        self.pool = pool
        self.kernels = kernels
        self.data = bytearray()

    @property
    def here(self) -> int:
        return self.at + len(self.data)

    def ref(self, operand: Operand | None, offsets: dict[str, int]) -> int:
        if operand is None:
            return 0
        if operand.const is not None:
            return records.REF_CONST | self.pool.add(operand.const)
        return offsets[operand.tensor] + operand.offset

    def run(self, op: Op, index: int, offsets: dict[str, int]) -> None:
        self.call(
            op.kernel.id,
            op.params(self.pool),
            index=index,
            in0=self.ref(op.in0, offsets),
            in1=self.ref(op.in1, offsets),
            out=self.ref(op.out, offsets),
            scratch=offsets[op_scratch(index)] if op.scratch_bytes else 0,
            scratch_bytes=op.scratch_bytes,
            group=op.group,
            variant=op.variant,
        )

    def call(self, kernel: int, params: bytes, **operands: int) -> None:
        if kernel not in self.kernels:
            self.kernels.append(kernel)
        size = records.INSTR.size + len(params)
        number = self.kernels.index(kernel)
        self.data += records.INSTR.pack(bytes=size, kind=records.INSTR_RUN, kernel=number, **operands) + params

    def mark(self, kind: int, index: int = 0, **selection: int) -> None:
        self.data += records.INSTR.pack(bytes=records.INSTR.size, kind=kind, index=index, **selection)


def emit_program(ops: list[Op], offsets: dict[str, int], kernels: list[int], at: int, pool: ConstPool) -> bytes:
    """A hook's program: the ops, then END. Bytes do not depend on `at`."""
    program = _Program(at, pool, kernels)
    for index, op in enumerate(ops):
        program.run(op, index, offsets)
    program.mark(records.INSTR_END)
    return bytes(program.data)


#: Extra kernel calls before a step: (kernel id, arena offset, parameters). For tests of the memory plan.
Extra = Callable[[int], list[tuple[int, int, bytes]]]


def write_main(
    lowered: Lowered,
    points: list[HookPoint],
    steps: Steps,
    memory: Memory,
    extra: Extra | None = None,
    flavour: int = 0,
    linked: Sequence[int] = (),
) -> bytes:
    """The device's bytes of a main pack whose tensors have their places.

    ``linked``: kernels that its kernel table names for bundles only.
    """
    offsets = memory.offsets
    pool = ConstPool(records.HEADER.size)
    kernels: list[int] = []
    # The first pass fills the constant pool, whose size fixes where the program starts.
    _emit_steps(_Program(0, pool, kernels), lowered, steps, offsets, extra)
    consts = pool.bytes()
    image = bytearray(bytes(records.HEADER.size) + consts)
    program = _Program(len(image), pool, kernels)
    starts = _emit_steps(program, lowered, steps, offsets, extra)
    assert pool.bytes() == consts
    header: dict[str, Any] = {"program": len(image), "program_bytes": len(program.data)}
    image += program.data
    header["points"] = len(image)
    for point in points:
        image += _point_record(point, lowered, steps, starts, memory, points)
    header["io"] = len(image)
    for port in (*lowered.graph.inputs, *lowered.graph.outputs):
        image += _io_record(lowered.tensors[port.tensor], offsets)
    header["kernels"] = len(image)
    kernels += [k for k in linked if k not in kernels]
    image += b"".join(k.to_bytes(2, "little") for k in kernels)
    return finish(
        image,
        kind=records.KIND_MAIN,
        flavour=flavour,
        arena_bytes=memory.size,
        kernel_count=len(kernels),
        input_count=len(lowered.graph.inputs),
        output_count=len(lowered.graph.outputs),
        point_count=len(points),
        group_count=next_group(lowered.ops) if any(op.group for op in lowered.ops) else 0,
        keep=offsets.get(KEEP, 0),
        keep_bytes=memory.lifetimes[KEEP][2] if points else 0,
        **header,
    )


def _emit_steps(
    program: _Program, lowered: Lowered, steps: Steps, offsets: dict[str, int], extra: Extra | None
) -> list[int]:
    """Start offset of every step, and of the END behind them."""
    starts = []
    last = max((i for i, op in enumerate(lowered.ops) if op.group and op.group == lowered.ending), default=-1)
    for step, (kind, index) in enumerate(steps):
        for kernel, out, params in extra(step) if extra else ():
            program.call(kernel, params, out=out)
        starts.append(program.here)
        if kind == "op":
            for number, op in enumerate(alternatives(lowered.ops, index), index):
                program.run(op, number, offsets)
            if index == last:
                program.mark(records.INSTR_END, group=lowered.ending, variant=1)
        else:
            program.mark(records.INSTR_POINT, index)
    starts.append(program.here)
    program.mark(records.INSTR_END)
    return starts


def _landing(node: int, lowered: Lowered, points: list[HookPoint], steps: Steps) -> int:
    """The first step that belongs to `node` or a later one."""
    for step, (kind, index) in enumerate(steps):
        if (points[index].node if kind == "point" else lowered.ops[index].node) >= node:
            return step
    return len(steps)


def _point_record(
    point: HookPoint,
    lowered: Lowered,
    steps: Steps,
    starts: list[int],
    memory: Memory,
    points: list[HookPoint],
) -> bytes:
    offsets = memory.offsets
    values: dict[str, Any] = {}
    if point.skip is not None:
        source, target, node = point.skip
        values = {
            "skip_src": offsets[source],
            "skip_dst": offsets[target],
            "skip_bytes": lowered.tensors[target].size,
            "skip_to": starts[_landing(node, lowered, points, steps)],
        }
    h, w, c = point.tap_shape
    return records.POINT.pack(
        instr=starts[steps.index(("point", point.index))],
        tap=offsets[point.tap],
        tap_scale=point.tap_quant.scale,
        tap_zero_point=point.tap_quant.zero_point,
        tap_h=h,
        tap_w=w,
        tap_c=c,
        window_h=point.window[0],
        window_w=point.window[1],
        scratch=offsets[scratch_name(point)],
        scratch_bytes=memory.lifetimes[scratch_name(point)][2],
        **values,
    )


def _io_record(tensor: Tensor, offsets: dict[str, int]) -> bytes:
    assert tensor.quant is not None
    h, w, c = tensor.shape
    return records.IO_TENSOR.pack(
        ref=offsets[tensor.name],
        bytes=tensor.size,
        h=h,
        w=w,
        c=c,
        zero_point=tensor.quant.zero_point,
        scale=tensor.quant.scale,
    )


def finish(image: bytearray, **header: Any) -> bytes:
    """Fills in the header of an image that left room for it: sizes, identity and CRC-32."""
    image += bytes(-len(image) % 4)
    values = {"magic": records.MAGIC, "version": records.FORMAT_VERSION, "bytes": len(image), **header}
    image[: records.HEADER.size] = records.HEADER.pack(**values)
    values["hash"] = hashlib.sha256(image[records.HASH_FROM :]).digest()[:16]
    image[: records.HEADER.size] = records.HEADER.pack(**values)
    values["crc32"] = zlib.crc32(image[records.CRC_FROM :])
    image[: records.HEADER.size] = records.HEADER.pack(**values)
    return bytes(image)


def load_pack(path: Path) -> Pack:
    """A main pack with its trailer, as `Pack.save` wrote it."""
    image, meta = trailer.load(path, "make a pack with 'dhn-kit pack'")
    if records.HEADER.unpack(image)["kind"] != records.KIND_MAIN:
        raise DhnError(f"{path} is a hook bundle, not a main pack; pass it with --hooks")
    if meta is None:
        raise DhnError(f"{path} lacks its host part (names and layouts); use the file that 'dhn-kit pack' wrote")
    return Pack(data=image, **from_meta(meta))
