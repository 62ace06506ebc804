"""Places a hook's programs in the main network's arena: what it reads, its scratch, and what it keeps for others."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dhn_kit import plan, plan_validator, records
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph, Node, Port, Quant, Tensor
from dhn_kit.hooks import HookPoint, HookSpec
from dhn_kit.kernels import Kernel, all_kernels, architecture_of, hook_kernels
from dhn_kit.latency import LatencyModel, load_latency
from dhn_kit.lower import Lowered, Op, lower
from dhn_kit.memory import mask_name, op_scratch, root, scratch_name
from dhn_kit.pack import Pack
from dhn_kit.strategy import choose_for_hooks
from dhn_kit.unpack import unpack

#: Names under which a hook's network may ask for something else than its point's feature.
TAP, ENV, KEEP, NET = "tap", "env", "keep.", "net."
#: How the environment's channels are read.
ENV_QUANT = Quant(1.0, 0)


@dataclass
class Program:
    """Ops of a hook and the arena offset of everything that they name."""

    ops: list[Op]
    offsets: dict[str, int]


@dataclass
class Placed:
    """A hook with every operand at its place. ``score`` and ``answer`` are arena offsets."""

    spec: HookSpec
    decide: Program
    then: Program | None
    otherwise: Program | None
    score: int
    score_count: int
    answer: int = 0
    answer_bytes: int = 0


@dataclass
class _Part:
    """A program on its way: its ops by kernels, and the fixed place of some of its tensors."""

    lowered: Lowered
    fixed: dict[str, int]
    needed_after: set[str]


def kept_by(spec: HookSpec, main: Pack) -> dict[str, Tensor]:
    """What the hook leaves in the arena, by name."""
    kept = {name: spec.net.tensors[tensor] for tensor, name in spec.keeps.items()}
    if spec.otherwise is not None:
        for port in spec.otherwise.outputs:
            kept[port.name.removeprefix(KEEP)] = spec.otherwise.tensors[port.tensor]
    if spec.action == "reuse":
        kept[_reuse_answer(spec)] = main.tensors[main.outputs[0].tensor]
    return kept


def read_by(spec: HookSpec) -> dict[str, Tensor]:
    """What the hook reads of what it or others have kept, by name."""
    found = {}
    for graph in (spec.net, spec.answer, spec.otherwise):
        for port in graph.inputs if graph is not None else ():
            if port.name.startswith(KEEP):
                assert graph is not None
                found[port.name.removeprefix(KEEP)] = graph.tensors[port.tensor]
    return found


def keep_layout(main: Pack, specs: Sequence[HookSpec]) -> dict[str, int]:
    """Arena offset of everything that these hooks keep or read. DhnError when the pack has less room for it."""
    sizes: dict[str, int] = {}
    for spec in specs:
        for name, tensor in {**read_by(spec), **kept_by(spec, main)}.items():
            sizes[name] = max(sizes.get(name, 0), tensor.size)
    header = main.header
    used = int(main.extra.get("keep_used", records.ENVIRONMENT))
    places = {}
    for name, size in sizes.items():
        places[name] = header["keep"] + used
        used += -(-size // 4) * 4
    if used > header["keep_bytes"]:
        raise DhnError(
            f"these hooks keep {used} bytes between them, '{main.name}' reserves {header['keep_bytes']}; "
            f"pack it with --keep {-(-used // 16) * 16}, or attach fewer"
        )
    return places


def pooled_input(net: Graph, point: HookPoint) -> Graph:
    """The hook's network with its feature pooling in front, so that it reads the tap itself."""
    graph = net.copy()
    port = _feature_port(graph)
    if port is None:
        return graph
    feature = port.tensor
    shape = graph.tensors[feature].shape
    if shape != point.feature_shape or graph.tensors[feature].quant != point.tap_quant:
        raise DhnError(
            f"hook '{net.name}' reads a feature {shape} {graph.tensors[feature].quant}, hook point {point.index} "
            f"('{point.name}') gives {point.feature_shape} {point.tap_quant}; train it for this pack"
        )
    graph.tensors[TAP] = Tensor(TAP, point.tap_shape, point.tap_quant)
    attrs = {"kernel": point.window, "stride": point.window, "pad": (0, 0, 0, 0)}
    port.tensor, port.name = TAP, TAP
    if point.window == (1, 1):
        graph.nodes.insert(0, Node("feature", "reshape", [TAP], feature, {}))
    else:
        graph.nodes.insert(0, Node("feature", "avg_pool", [TAP], feature, attrs))
    return graph


def _feature_port(graph: Graph) -> Port | None:
    features = [p for p in graph.inputs if p.name not in (TAP, ENV) and not p.name.startswith(KEEP)]
    return features[0] if features else None


def place_hook(main: Pack, spec: HookSpec, keep: Mapping[str, int] | None = None) -> Placed:
    """All of a hook's programs in the scratch of its point. ``keep``: `keep_layout` of the whole bundle.

    DhnError when the hook does not fit its point, its answer not the network, or its bytes not the scratch.
    """
    if not 0 <= spec.point < len(main.points):
        raise DhnError(f"hook '{spec.name}' names hook point {spec.point}, '{main.name}' has {len(main.points)}")
    point = main.points[spec.point]
    kept = dict(keep_layout(main, [spec]) if keep is None else keep)
    graphs = _graphs(main, spec, point)
    for scratch_share in (1.0, 0.5, 0.0):
        parts = {k: _part(main, point, spec, graph, fixed, kept, scratch_share) for k, (graph, fixed) in graphs.items()}
        _share_views(parts)
        programs, size = _join(main, point, parts)
        if size <= _scratch(main, point)[1]:
            break
    else:
        raise DhnError(
            f"hook '{spec.name}' needs {size} bytes of scratch, its hook point reserves {_scratch(main, point)[1]}; "
            "use a smaller hidden layer or feature"
        )
    decide = programs["decide"]
    score = graphs["decide"][0].outputs[0].tensor
    placed = Placed(spec, decide, programs.get("then"), programs.get("otherwise"), decide.offsets[score], 0)
    placed.score_count = graphs["decide"][0].tensors[score].size
    _place_answer(main, placed, graphs, kept)
    return placed


def _place_answer(
    main: Pack, placed: Placed, graphs: Mapping[str, tuple[Graph, dict[str, int]]], kept: Mapping[str, int]
) -> None:
    spec = placed.spec
    if spec.action in ("exit", "blend"):
        last = "then" if "then" in graphs else "decide"
        tensor = graphs[last][0].tensors[graphs[last][0].outputs[-1].tensor]
        _check_answer(main, spec, tensor)
        program = placed.then or placed.decide
        placed.answer, placed.answer_bytes = program.offsets[tensor.name], tensor.size
    elif spec.action == "reuse":
        placed.answer = kept[_reuse_answer(spec)]
        placed.answer_bytes = main.tensors[main.outputs[0].tensor].size
    elif spec.action == "mask" and not spec.mask_groups:
        placed.answer, placed.answer_bytes = main.offsets[mask_name(spec.group)], placed.score_count


def _reuse_answer(spec: HookSpec) -> str:
    return f"{spec.name}.answer"


def _graphs(main: Pack, spec: HookSpec, point: HookPoint) -> dict[str, tuple[Graph, dict[str, int]]]:
    """What decides, what runs then and what otherwise, with the fixed places of tensors of the main network."""
    net = pooled_input(spec.net, point)
    decide = _renamed(net, "net", {p.tensor: p.name for p in net.inputs})
    graphs: dict[str, tuple[Graph, dict[str, int]]] = {"decide": (decide, {TAP: main.offsets[point.tap]})}
    if spec.action in ("exit", "blend") and spec.answer is not None:
        first, *others = spec.answer.inputs
        known = {first.tensor: decide.outputs[-1].tensor} | {p.tensor: p.name for p in others}
        graphs["then"] = _renamed(spec.answer, "answer", known), {}
    elif spec.action == "skip":
        repair = _repair(main, spec, point)
        if repair is not None:
            graphs["then"] = repair
    if spec.otherwise is not None:
        known = {
            p.tensor: f"net/{p.name.removeprefix(NET)}" if p.name.startswith(NET) else p.name
            for p in spec.otherwise.inputs
        }
        graphs["otherwise"] = _renamed(spec.otherwise, "otherwise", known), {}
    return graphs


def _renamed(graph: Graph, prefix: str, known: Mapping[str, str]) -> Graph:
    """The same graph with tensor names that do not meet another's; `known` renames some of them."""
    names = {t: known.get(t, f"{prefix}/{t}") for t in graph.tensors}
    copy = graph.copy()
    copy.tensors = {names[k]: Tensor(names[k], t.shape, t.quant) for k, t in copy.tensors.items()}
    for node in copy.nodes:
        node.inputs = [names[i] for i in node.inputs]
        node.output = names[node.output]
    for port in (*copy.inputs, *copy.outputs):
        port.tensor = names[port.tensor]
    return copy


def _repair(main: Pack, spec: HookSpec, point: HookPoint) -> tuple[Graph, dict[str, int]] | None:
    """From the skip's source straight to its destination; None where they are the same bytes already."""
    if point.skip is None:
        raise DhnError(f"hook '{spec.name}' skips at hook point {point.index} ('{point.name}'), which has no branch")
    source, target, _ = point.skip
    fixed = {"repair.in": main.offsets[source], "repair.out": main.offsets[target]}
    graph = spec.repair or _copy_graph(main.tensors[source], main.tensors[target])
    ends = (graph.tensors[graph.inputs[0].tensor], graph.tensors[graph.outputs[0].tensor])
    for tensor, name in zip(ends, (source, target), strict=True):
        if tensor.quant != main.tensors[name].quant or tensor.size != main.tensors[name].size:
            raise DhnError(f"repair of hook '{spec.name}' does not fit tensor '{name}' of '{main.name}'")
    if spec.repair is None and fixed["repair.in"] == fixed["repair.out"]:
        return None
    return _renamed(graph, "repair", {ends[0].name: "repair.in", ends[1].name: "repair.out"}), fixed


def _copy_graph(source: Tensor, target: Tensor) -> Graph:
    tensors = {"in": Tensor("in", source.shape, source.quant), "out": Tensor("out", target.shape, target.quant)}
    node = Node("copy", "transpose", ["in"], "out", {"perm": (0, 1, 2)})
    return Graph("copy", tensors, [node], [Port("in", "in", source.shape)], [Port("out", "out", target.shape)])


def _check_answer(main: Pack, spec: HookSpec, answer: Tensor) -> None:
    expected = main.tensors[main.outputs[0].tensor]
    if answer.size != expected.size or answer.quant != expected.quant:
        raise DhnError(
            f"hook '{spec.name}' answers with {answer.shape} {answer.quant}, '{main.name}' with "
            f"{expected.shape} {expected.quant}; both must be the same"
        )


def _part(
    main: Pack,
    point: HookPoint,
    spec: HookSpec,
    graph: Graph,
    fixed: Mapping[str, int],
    kept: Mapping[str, int],
    scratch_share: float,
) -> _Part:
    """The graph by kernels that the pack's firmware links, which may use this share of what its tensors leave."""
    lowered = lower(graph)
    room = _scratch(main, point)[1] - _peak(lowered)
    lowered = choose_for_hooks(lowered, _linked(main), max(0, int(scratch_share * room)), _latency(main))
    places = {**fixed, ENV: main.header["keep"], **{KEEP + name: at for name, at in kept.items()}}
    keeps = {f"net/{tensor}": name for tensor, name in spec.keeps.items()}
    keeps |= {port.tensor: port.name.removeprefix(KEEP) for port in graph.outputs if port.name.startswith(KEEP)}
    for tensor, name in keeps.items():
        if tensor not in lowered.tensors:
            continue
        top = root(lowered.aliases, tensor)
        if top in places:
            raise DhnError(f"hook '{spec.name}' keeps '{name}', which is only a view of what it reads; copy it first")
        places[top] = kept[name]
    needed = {root(lowered.aliases, port.tensor) for port in graph.outputs}
    return _Part(lowered, {t: at for t, at in places.items() if t in lowered.tensors}, needed)


def _peak(lowered: Lowered) -> int:
    """Most bytes of tensors that the program itself needs at once, kernels' scratch apart."""
    steps = list(_touched(lowered))
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for step, names in enumerate(steps):
        for name in names:
            first.setdefault(name, step)
            last[name] = step
    own = {n: -(-lowered.tensors[n].size // 4) * 4 for n in first if n != TAP}
    return max((sum(b for n, b in own.items() if first[n] <= s <= last[n]) for s in range(len(steps))), default=0)


def _touched(lowered: Lowered) -> Iterator[list[str]]:
    """Names of the buffers that each op reads or writes."""
    for op in lowered.ops:
        operands = (x for x in (op.in0, op.in1, op.out) if x is not None and x.const is None)
        yield [root(lowered.aliases, x.tensor) for x in operands]


def _share_views(parts: Mapping[str, _Part]) -> None:
    """A view that the deciding program makes is one for the others too, and what is fixed is fixed for all."""
    decide = parts["decide"]
    for part in parts.values():
        lowered = part.lowered
        for name in set(lowered.tensors) & set(decide.lowered.tensors):
            top = root(decide.lowered.aliases, name)
            if part is not decide and top != name:
                lowered.aliases[name] = top
                lowered.tensors[top] = decide.lowered.tensors[top]
        part.fixed |= {name: at for name, at in decide.fixed.items() if name in lowered.tensors}


def _join(main: Pack, point: HookPoint, parts: Mapping[str, _Part]) -> tuple[dict[str, Program], int]:
    """Places what the programs, one after the other, need at once in the point's scratch; also says how much it is."""
    sizes: dict[str, int] = {}
    span: dict[str, tuple[int, int]] = {}
    buffers: list[plan.Buffer] = []
    step = 0

    def touch(name: str, at: int) -> None:
        start, end = span.get(name, (at, at))
        span[name] = (min(start, at), max(end, at + 1))

    for key, part in parts.items():
        for number, names in enumerate(_touched(part.lowered)):
            for name in names:
                sizes[name] = max(sizes.get(name, 0), part.lowered.tensors[name].size)
                touch(name, step)
            scratch = part.lowered.ops[number].scratch_bytes
            if scratch:
                buffers.append(plan.Buffer(f"{key}.{op_scratch(number)}", scratch, step, step + 1))
            step += 1
        # The runtime reads scores and answers when the program has ended.
        for name in part.needed_after & set(span):
            touch(name, step)
        step += 1
    fixed = {name: at for part in parts.values() for name, at in part.fixed.items()}
    buffers += [plan.Buffer(n, size, *span[n]) for n, size in sizes.items() if n not in fixed]
    problem = plan.Problem(tuple(buffers))
    solution = plan.solve(problem)
    plan_validator.validate(problem, solution)
    base = _scratch(main, point)[0]
    places = {**fixed, **{name: base + at for name, at in solution.offsets.items()}}
    return {key: _program(key, part, places) for key, part in parts.items()}, solution.size


def _program(key: str, part: _Part, places: Mapping[str, int]) -> Program:
    lowered = part.lowered
    offsets = {}
    for tensor in lowered.tensors:
        top = root(lowered.aliases, tensor)
        if top in places:
            offsets[tensor] = places[top]
    for number, op in enumerate(lowered.ops):
        if op.scratch_bytes:
            offsets[op_scratch(number)] = places[f"{key}.{op_scratch(number)}"]
    return Program(lowered.ops, offsets)


def _linked(main: Pack) -> list[Kernel]:
    """Kernels that every firmware of the architecture has, and those that this pack's names."""
    arch = architecture_of(main.header["flavour"])
    known = all_kernels()
    return list(dict.fromkeys([*hook_kernels(arch), *(known[n] for n in unpack(main.data).kernels)]))


def _latency(main: Pack) -> LatencyModel | None:
    board = main.extra.get("latency")
    return load_latency(board) if board else None


def _scratch(main: Pack, point: HookPoint) -> tuple[int, int]:
    return main.offsets[scratch_name(point)], main.lifetimes[scratch_name(point)][2]
