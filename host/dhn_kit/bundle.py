"""Writes trained hooks as a bundle (.dhn) bound to one main pack, and reads what the host needs of it back."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhn_kit import plan, plan_validator, records, trailer
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph, Node, Port, Tensor
from dhn_kit.hooks import Bundle, Certificate, HookPoint, HookSpec
from dhn_kit.kernels import architecture_of
from dhn_kit.lower import Lowered, Op, lower
from dhn_kit.memory import op_scratch, root, scratch_name
from dhn_kit.pack import Pack, emit_program, finish
from dhn_kit.records import ConstPool
from dhn_kit.strategy import choose_for_hooks

#: The buffer that all ops of a hook use in turn.
SCRATCH = "scratch"


@dataclass
class _Placed:
    """A hook with every operand at its place in the main network's arena."""

    spec: HookSpec
    decide: list[Op]
    then: list[Op]
    offsets: dict[str, int]
    score: str
    score_count: int
    answer: str
    answer_bytes: int


def pooled_input(net: Graph, point: HookPoint) -> Graph:
    """The hook's network with its feature pooling in front, so that its input is the tap itself."""
    graph = net.copy()
    feature = graph.inputs[0].tensor
    shape = graph.tensors[feature].shape
    if shape != point.feature_shape or graph.tensors[feature].quant != point.tap_quant:
        raise DhnError(
            f"hook '{net.name}' reads a feature {shape} {graph.tensors[feature].quant}, hook point {point.index} "
            f"('{point.name}') gives {point.feature_shape} {point.tap_quant}; train it for this pack"
        )
    tap = "tap"
    graph.tensors[tap] = Tensor(tap, point.tap_shape, point.tap_quant)
    attrs = {"kernel": point.window, "stride": point.window, "pad": (0, 0, 0, 0)}
    graph.inputs[0].tensor = tap
    if point.window == (1, 1):
        graph.nodes.insert(0, Node("feature", "reshape", [tap], feature, {}))
    else:
        graph.nodes.insert(0, Node("feature", "avg_pool", [tap], feature, attrs))
    return graph


def _join(lowered: list[Lowered], fixed: dict[str, int], base: int, room: int, name: str) -> dict[str, int]:
    """Places the tensors of one or two programs that run one after the other in the point's scratch."""
    sizes: dict[str, int] = {}
    for part in lowered:
        for op in part.ops:
            for operand in (op.in0, op.in1, op.out):
                if operand is not None and operand.const is None:
                    top = root(part.aliases, operand.tensor)
                    sizes[top] = max(sizes.get(top, 0), part.tensors[operand.tensor].size)
    # All at once alive: hooks are small, and a score must outlast its program. Ops take turns in one scratch.
    buffers = [plan.Buffer(n, size, 0, 1) for n, size in sizes.items() if n not in fixed]
    ops = [op for part in lowered for op in part.ops]
    buffers.append(plan.Buffer(SCRATCH, max((op.scratch_bytes for op in ops), default=0), 0, 1))
    problem = plan.Problem(tuple(buffers))
    solution = plan.solve(problem)
    plan_validator.validate(problem, solution)
    if solution.size > room:
        raise DhnError(
            f"hook '{name}' needs {solution.size} bytes of scratch, its hook point reserves {room}; "
            "use a smaller hidden layer or feature"
        )
    offsets = {**fixed, **{n: base + o for n, o in solution.offsets.items()}}
    offsets.update({op_scratch(i): offsets[SCRATCH] for i in range(len(ops))})
    for part in lowered:
        for tensor in part.tensors:
            top = root(part.aliases, tensor)
            if top in offsets:
                offsets[tensor] = offsets[top]
    return offsets


def hook_program(main: Pack, point: HookPoint, graph: Graph, reserve: int = 0) -> Lowered:
    """The graph by kernels that the pack's firmware links for hooks. ``reserve``: bytes that another program needs."""
    lowered = lower(graph)
    room = _scratch(main, point)[1] - reserve - sum(_own_bytes(lowered).values())
    return choose_for_hooks(lowered, architecture_of(main.header["flavour"]), max(0, room))


def _own_bytes(lowered: Lowered) -> dict[str, int]:
    """Bytes of what a hook's program keeps in scratch, aligned."""
    sizes = {root(lowered.aliases, name): -(-t.size // 4) * 4 for name, t in lowered.tensors.items()}
    return {name: size for name, size in sizes.items() if name != "tap"}


def _scratch(main: Pack, point: HookPoint) -> tuple[int, int]:
    return main.offsets[scratch_name(point)], main.lifetimes[scratch_name(point)][2]


def _prefixed(graph: Graph, prefix: str, keep: dict[str, str]) -> Graph:
    """The same graph with tensor names that do not meet another's; `keep` renames some of them."""
    names = {t: keep.get(t, f"{prefix}/{t}") for t in graph.tensors}
    copy = graph.copy()
    copy.tensors = {names[k]: Tensor(names[k], t.shape, t.quant) for k, t in copy.tensors.items()}
    for node in copy.nodes:
        node.inputs = [names[i] for i in node.inputs]
        node.output = names[node.output]
    for port in (*copy.inputs, *copy.outputs):
        port.tensor = names[port.tensor]
    return copy


def _place_hook(main: Pack, spec: HookSpec) -> _Placed:
    if not 0 <= spec.point < len(main.points):
        raise DhnError(f"hook '{spec.name}' names hook point {spec.point}, '{main.name}' has {len(main.points)}")
    point = main.points[spec.point]
    net = _prefixed(pooled_input(spec.net, point), "net", {"tap": "tap"})
    answer_bytes = -(-main.tensors[main.outputs[0].tensor].size // 4) * 4
    decide = hook_program(main, point, net, answer_bytes if spec.answer else 0)
    score = net.outputs[0].tensor
    parts, fixed = [decide], {"tap": main.offsets[point.tap]}
    then: Lowered | None = None
    answer = score
    if spec.action == "exit":
        if spec.answer is not None:
            graph = _prefixed(spec.answer, "answer", {spec.answer.inputs[0].tensor: score})
            then = hook_program(main, point, graph, sum(_own_bytes(decide).values()))
            answer = graph.outputs[0].tensor
            parts.append(then)
        _check_answer(main, spec, (then or decide).tensors[answer])
    else:
        then = _repair(main, spec, point, fixed)
    base, room = _scratch(main, point)
    offsets = _join(parts, fixed, base, room, spec.name)
    return _Placed(
        spec,
        decide.ops,
        then.ops if then else [],
        offsets,
        score,
        decide.tensors[score].size,
        answer,
        decide.tensors[score].size if answer == score else then.tensors[answer].size if then else 0,
    )


def _check_answer(main: Pack, spec: HookSpec, answer: Tensor) -> None:
    expected = main.tensors[main.outputs[0].tensor]
    if answer.size != expected.size or answer.quant != expected.quant:
        raise DhnError(
            f"hook '{spec.name}' answers with {answer.shape} {answer.quant}, '{main.name}' with "
            f"{expected.shape} {expected.quant}; both must be the same"
        )


def _repair(main: Pack, spec: HookSpec, point: HookPoint, fixed: dict[str, int]) -> Lowered | None:
    """The repair's program, straight from the skip's source to its destination."""
    if point.skip is None:
        raise DhnError(f"hook '{spec.name}' skips at hook point {point.index} ('{point.name}'), which has no branch")
    source, target, _ = point.skip
    fixed["repair.in"], fixed["repair.out"] = main.offsets[source], main.offsets[target]
    graph = spec.repair or _copy_graph(main.tensors[source], main.tensors[target])
    ends = (graph.tensors[graph.inputs[0].tensor], graph.tensors[graph.outputs[0].tensor])
    for tensor, name in zip(ends, (source, target), strict=True):
        if tensor.quant != main.tensors[name].quant or tensor.size != main.tensors[name].size:
            raise DhnError(f"repair of hook '{spec.name}' does not fit tensor '{name}' of '{main.name}'")
    if spec.repair is None and fixed["repair.in"] == fixed["repair.out"]:
        return None
    named = {ends[0].name: "repair.in", ends[1].name: "repair.out"}
    return hook_program(main, point, _prefixed(graph, "repair", named))


def _copy_graph(source: Tensor, target: Tensor) -> Graph:
    tensors = {"in": Tensor("in", source.shape, source.quant), "out": Tensor("out", target.shape, target.quant)}
    node = Node("copy", "transpose", ["in"], "out", {"perm": (0, 1, 2)})
    return Graph("copy", tensors, [node], [Port("in", "in", source.shape)], [Port("out", "out", target.shape)])


def hook_order(bundle: Bundle) -> list[HookSpec]:
    """The order in which the runtime numbers hooks: by point, exits before skips at the same point."""
    return sorted(bundle.hooks, key=lambda h: (h.point, h.action != "exit"))


def pack_bundle(main: Pack, bundle: Bundle) -> bytes:
    """The device's bytes of a hook bundle. DhnError names the hook that does not fit its point."""
    specs = hook_order(bundle)
    points = len(bundle.operating_points)
    for spec in specs:
        if len(spec.thresholds) != points:
            raise DhnError(f"hook '{spec.name}' has {len(spec.thresholds)} thresholds for {points} operating points")
    placed = [_place_hook(main, spec) for spec in specs]
    pool = ConstPool(records.HEADER.size)
    kernels: list[int] = []
    programs = [
        (emit_program(p.decide, p.offsets, kernels, 0, pool), emit_program(p.then, p.offsets, kernels, 0, pool))
        for p in placed
    ]
    image = bytearray(bytes(records.HEADER.size) + pool.bytes())
    hooks = b""
    for item, (decide, then) in zip(placed, programs, strict=True):
        at = {"program": len(image)}
        image += decide
        if item.then:
            at["then"] = len(image)
            image += then
        at["thresholds"] = len(image)
        image += b"".join(int(t).to_bytes(4, "little", signed=True) for t in item.spec.thresholds)
        hooks += records.HOOK.pack(
            point=item.spec.point,
            action=records.ACTIONS[item.spec.action],
            decide=records.DECIDE[item.spec.decide],
            score=item.offsets[item.score],
            score_count=item.score_count,
            answer=item.offsets[item.answer] if item.spec.action == "exit" else 0,
            answer_bytes=item.answer_bytes if item.spec.action == "exit" else 0,
            **at,
        )
    header: dict[str, Any] = {"hooks": len(image)}
    image += hooks
    header["kernels"] = len(image)
    image += b"".join(k.to_bytes(2, "little") for k in kernels)
    return finish(
        image,
        kind=records.KIND_HOOKS,
        bound_to=bytes.fromhex(main.hash),
        arena_bytes=main.header["arena_bytes"],
        kernel_count=len(kernels),
        hook_count=len(specs),
        operating_points=points,
        bundle_version=bundle.version,
        **header,
    )


@dataclass
class BundleFile:
    """A packed bundle as the host keeps it: device bytes and what they mean."""

    data: bytes
    operating_points: list[str]
    certificates: list[Certificate]
    #: per hook in the runtime's order: name, point, action, thresholds, and as [kernel, MACs, outputs] the operators
    #: that decide and those that run when it acts
    hooks: list[dict[str, Any]]
    report: dict[str, Any]

    @property
    def header(self) -> dict[str, Any]:
        return records.HEADER.unpack(self.data)

    @property
    def model_hash(self) -> str:
        return bytes(self.header["bound_to"]).hex()

    @property
    def version(self) -> int:
        return int(self.header["bundle_version"])


def bundle_file(main: Pack, bundle: Bundle) -> BundleFile:
    hooks = []
    for spec in hook_order(bundle):
        placed = _place_hook(main, spec)
        hooks.append(
            {
                "name": spec.name,
                "point": spec.point,
                "action": spec.action,
                "thresholds": [int(t) for t in spec.thresholds],
                "decide": [[o.kernel.name, o.macs, o.outputs] for o in placed.decide],
                "act": [[o.kernel.name, o.macs, o.outputs] for o in placed.then],
            }
        )
    return BundleFile(
        pack_bundle(main, bundle), list(bundle.operating_points), list(bundle.certificates), hooks, dict(bundle.report)
    )


def save_bundle(file: BundleFile, path: Path) -> None:
    """Device bytes plus a JSON trailer with names and certificates, written whole or not at all."""
    meta = {
        "operating_points": file.operating_points,
        "certificates": [dataclasses.asdict(c) for c in file.certificates],
        "hooks": file.hooks,
        "report": file.report,
    }
    trailer.save(path, file.data, meta)


def load_bundle(path: Path) -> BundleFile:
    """Reads a bundle file. DhnError when it is a main pack, cut off, corrupted or without its host part."""
    image, meta = trailer.load(path, "make a bundle with 'dhn-kit train'")
    if records.HEADER.unpack(image)["kind"] != records.KIND_HOOKS:
        raise DhnError(f"{path} is a main pack, not a hook bundle; make a bundle with 'dhn-kit train'")
    if meta is None:
        raise DhnError(f"{path} lacks its host part (certificates); use the file that 'dhn-kit train' wrote")
    certificates = [Certificate(**c) for c in meta["certificates"]]
    return BundleFile(image, meta["operating_points"], certificates, meta["hooks"], meta["report"])


def with_thresholds(data: bytes, thresholds: list[int]) -> bytes:
    """The same bundle with one threshold per hook at every operating point: for what-if runs on the twin."""
    image = bytearray(data)
    header = records.HEADER.unpack(data)
    for number, threshold in enumerate(thresholds):
        hook = records.HOOK.unpack(data, header["hooks"] + number * records.HOOK.size)
        for point in range(header["operating_points"]):
            at = hook["thresholds"] + 4 * point
            image[at : at + 4] = int(threshold).to_bytes(4, "little", signed=True)
    image[12:16] = zlib.crc32(image[records.CRC_FROM :]).to_bytes(4, "little")
    return bytes(image)


def check_binding(main: Pack, bundle: BundleFile, path: Path | str = "the bundle") -> None:
    if bundle.model_hash != main.hash:
        raise DhnError(
            f"{path} belongs to another model ({bundle.model_hash[:12]}, this one is {main.hash[:12]}); "
            "train hooks for this pack"
        )
