"""Gives every tensor and every scratch of a program its place in the arena."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dhn_kit import plan, plan_validator
from dhn_kit.hooks import KEEP_BYTES, HookPoint
from dhn_kit.lower import Lowered, Op, Operand, alternatives

KEEP = "hooks.keep"

#: Hooks' scratch starts at multiples of this.
ALIGN = 16

#: Program step of every op and point, in order: ("op", number) or ("point", index). The variants of an op that write
#: the same bytes are one step, which has the first one's number.
Steps = list[tuple[str, int]]


@dataclass(frozen=True)
class Memory:
    """``offsets`` of tensors (views too), of scratch and of the hooks' bytes. ``lifetimes``: (start, end, bytes)."""

    offsets: dict[str, int]
    size: int
    lower_bound: int
    proven_optimal: bool
    lifetimes: dict[str, tuple[int, int, int]]


def root(aliases: dict[str, str], tensor: str) -> str:
    while tensor in aliases:
        tensor = aliases[tensor]
    return tensor


def op_scratch(index: int) -> str:
    return f"op.scratch{index}"


def scratch_name(point: HookPoint) -> str:
    return f"hooks.scratch{point.index}"


def mask_name(group: int) -> str:
    """The arena bytes of a channel mask, in `Pack.offsets`: part of what hooks own."""
    return f"hooks.mask{group}"


def scratch_bytes(point: HookPoint, classes: int, roomy: bool = True) -> int:
    """What the default hooks need: feature (if not the tap itself), a hidden layer of up to 64, scores and answer,
    each aligned. ``roomy``: and the feature once more in 16 bits, for faster kernels, which widen their input."""
    feature = point.feature_shape[0] * point.feature_shape[1] * point.feature_shape[2]
    wide = 2 * (-(-max(feature, 64) // 16) * 16)
    own = 0 if point.window == (1, 1) else feature
    return sum(-(-n // 4) * 4 for n in (own, 64, classes, classes, 4, wide * roomy))


def classes_of(lowered: Lowered) -> int:
    """Bytes of the largest output: as many as an exit's scores."""
    return max(lowered.tensors[p.tensor].size for p in lowered.graph.outputs)


def steps_of(lowered: Lowered, points: list[HookPoint]) -> Steps:
    """Points come before the first op of their node; a skip lands in front of the points of its target."""
    steps: Steps = []
    todo = list(points)
    for number, op in enumerate(lowered.ops):
        while todo and todo[0].node <= op.node:
            steps.append(("point", todo.pop(0).index))
        if alternatives(lowered.ops, number):
            steps.append(("op", number))
    return steps + [("point", point.index) for point in todo]


def place(lowered: Lowered, points: list[HookPoint], steps: Steps, keep: int = KEEP_BYTES) -> Memory:
    """The best plan that the search finds, judged by the validator. ``keep``: bytes that hooks own from run to run."""
    task = _best_task(_Lives(lowered, points, steps, keep))
    solution = plan.solve(task.problem)
    roomy = _with_room(task)
    if roomy.room:
        larger = plan.solve(roomy.problem)
        if larger.size <= solution.size:
            task, solution = roomy, larger
    plan_validator.validate(task.problem, solution)
    offsets = dict(solution.offsets)
    for slot in task.lives.slots:
        shared = {op_scratch(slot.number + i): offsets.get(op_scratch(slot.number), 0) for i in range(len(slot.ops))}
        offsets.update(shared if slot.scratch_bytes else {})
    lifetimes = {b.name: (b.start, b.end, b.size) for b in task.problem.buffers}
    for point in points:
        start, end, _ = lifetimes[scratch_name(point)]
        other = {task.top(point.skip[1])} if point.skip else set()
        at, size = _largest_hole(offsets, lifetimes, start, solution.size, scratch_name(point), other)
        offsets[scratch_name(point)], lifetimes[scratch_name(point)] = at, (start, end, size)
    offsets.update({n: offsets[task.top(n)] for n in lowered.tensors if task.top(n) in offsets})
    return Memory(offsets, solution.size, solution.lower_bound, solution.proven_optimal, lifetimes)


def _largest_hole(
    offsets: dict[str, int],
    lifetimes: dict[str, tuple[int, int, int]],
    step: int,
    size: int,
    own: str,
    apart: set[str],
) -> tuple[int, int]:
    """(offset, bytes) of the largest stretch that nothing but `own` needs in this step, and nothing of `apart` ever: a
    hook may as well have all of it."""
    taken = sorted(
        (offsets[name], offsets[name] + count)
        for name, (start, end, count) in lifetimes.items()
        if name != own and (start <= step < end or name in apart)
    )
    holes, at = [], 0
    for start, end in [*taken, (size, size)]:
        first = -(-at // ALIGN) * ALIGN
        holes.append((first, start - first))
        at = max(at, end)
    return max(holes, key=lambda hole: hole[1])


def arena_bytes(lowered: Lowered, points: list[HookPoint]) -> tuple[int, int]:
    """(size, lower bound) of a quick plan, for comparing kernels or orders: some milliseconds for 60 ops."""
    tasks = _starts(_Lives(lowered, points, steps_of(lowered, points)))
    quick = min((_quick(task) for task in tasks), key=lambda plan: plan.size)
    return quick.size, quick.lower_bound


class _Lives:
    """First and last step in which the bytes of each tensor are needed; views count as what they view."""

    def __init__(self, lowered: Lowered, points: list[HookPoint], steps: Steps, keep: int = KEEP_BYTES) -> None:
        self.lowered, self.points, self.steps, self.keep = lowered, points, steps, keep
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.outputs = {root(lowered.aliases, p.tensor) for p in lowered.graph.outputs}
        self.slots = [_Slot(s, i, alternatives(lowered.ops, i)) for s, (kind, i) in enumerate(steps) if kind == "op"]
        for port in lowered.graph.inputs:
            self._touch(port.tensor, 0)
        for port in lowered.graph.outputs:
            self._touch(port.tensor, len(steps) - 1)
        for step, (kind, index) in enumerate(steps):
            for tensor in _operands(alternatives(lowered.ops, index)) if kind == "op" else _read_at(points[index]):
                self._touch(tensor, step)

    def _touch(self, tensor: str, step: int) -> None:
        top = root(self.lowered.aliases, tensor)
        self.first[top] = min(self.first.get(top, step), step)
        self.last[top] = max(self.last.get(top, step), step)


@dataclass(frozen=True)
class _Slot:
    """The op of a step, or its variants, of which at most one runs: what holds for all of them."""

    step: int
    number: int
    ops: Sequence[Op]

    @property
    def out(self) -> Operand:
        return self.ops[0].out

    @property
    def inputs(self) -> list[Operand]:
        """In the arena, without repetition. Those of the first op come first."""
        sides = [x for op in self.ops for x in (op.in0, op.in1) if x is not None and x.const is None]
        return list(dict.fromkeys(sides))

    @property
    def first(self) -> Operand | None:
        """The first input, if it is the same for all; none where it is a constant."""
        sides = {op.in0 for op in self.ops}
        return self.ops[0].in0 if len(sides) == 1 and self.ops[0].in0.const is None else None

    @property
    def in_place(self) -> bool:
        alike = len({(op.in0, op.in1) for op in self.ops}) == 1
        return alike and all(op.in_place and op.kernel.in_place for op in self.ops)

    @property
    def lead(self) -> int | None:
        leads = [op.lead for op in self.ops]
        return None if None in leads else max(n for n in leads if n is not None)

    @property
    def scratch_bytes(self) -> int:
        return max(op.scratch_bytes for op in self.ops)


def _operands(ops: Sequence[Op]) -> list[str]:
    return [x.tensor for op in ops for x in (op.in0, op.in1, op.out) if x is not None and x.const is None]


def _read_at(point: HookPoint) -> list[str]:
    return [point.tap, *point.skip[:1]] if point.skip else [point.tap]


class _Task:
    """The planner's problem once it is settled which results take over the bytes of an input.

    ``second`` are the numbers of ops that rather take over their second input's bytes, where they may; ``room`` the
    hook points whose scratch has room for faster kernels.
    """

    def __init__(self, lives: _Lives, second: frozenset[int], room: frozenset[int] = frozenset()) -> None:
        self.lives = lives
        self.second = second
        self.room = room
        self.merged = dict(lives.lowered.aliases)
        self.both: list[tuple[int, str, str]] = []  #: ops that may take over either side, and the sides
        for slot in lives.slots:
            self._merge_in_place(slot)
        self.span: dict[str, tuple[int, int]] = {}
        for tensor in lives.first:
            top = self.top(tensor)
            start, end = self.span.get(top, (lives.first[tensor], 0))
            self.span[top] = (min(start, lives.first[tensor]), max(end, lives.last[tensor] + 1))
        self.problem = plan.Problem(self._buffers(), self._conflicts(), overlaps=self._overlaps())

    def top(self, tensor: str) -> str:
        return root(self.merged, tensor)

    def _merge_in_place(self, slot: _Slot) -> None:
        """The result takes over the bytes of an input that nobody reads again. An addition may take either side's."""
        lives, tensors = self.lives, self.lives.lowered.tensors
        out = root(lives.lowered.aliases, slot.out.tensor)
        if not slot.in_place or slot.out.offset or lives.first[out] != slot.step or out in self.merged:
            return
        sources = []
        for operand in slot.inputs:
            source = root(lives.lowered.aliases, operand.tensor)
            fits = tensors[operand.tensor].size == tensors[slot.out.tensor].size
            if fits and lives.last[source] == slot.step and source not in lives.outputs and source != out:
                sources.append(source)
        if len(set(sources)) == 2:
            self.both.append((slot.number, sources[0], sources[1]))
        if sources:
            self.merged[out] = sources[-1 if slot.number in self.second else 0]

    def _buffers(self) -> tuple[plan.Buffer, ...]:
        lowered, sizes = self.lives.lowered, dict[str, int]()
        for name, tensor in lowered.tensors.items():
            sizes[self.top(name)] = max(sizes.get(self.top(name), 0), tensor.size)
        buffers = [plan.Buffer(n, sizes[n], *self.span[n]) for n in sizes if n in self.span]
        if self.lives.points:
            buffers.append(plan.Buffer(KEEP, self.lives.keep, 0, len(self.lives.steps)))
        classes = classes_of(lowered)
        scratch = {slot.step: slot.scratch_bytes for slot in self.lives.slots}
        for step, (kind, index) in enumerate(self.lives.steps):
            if kind == "point":
                point = self.lives.points[index]
                size = scratch_bytes(point, classes, index in self.room)
                buffers.append(plan.Buffer(scratch_name(point), size, step, step + 1))
            elif scratch[step]:
                buffers.append(plan.Buffer(op_scratch(index), scratch[step], step, step + 1))
        return tuple(buffers)

    def _conflicts(self) -> frozenset[tuple[str, str]]:
        """A repair reads source and scratch while it writes the destination: the source's very bytes, or others."""
        pairs = set()
        for point in self.lives.points:
            if point.skip is not None:
                target = self.top(point.skip[1])
                for other in (self.top(point.skip[0]), scratch_name(point)):
                    if other != target:
                        pairs.add((min(other, target), max(other, target)))
        return frozenset(pairs)

    def _overlaps(self) -> dict[tuple[str, str], int]:
        """Results that start to live in the step in which their first input dies, where the kernel names a lead."""
        kept = {self.top(t) for t in self.lives.outputs}
        overlaps = {}
        for slot in self.lives.slots:
            first = slot.first
            if slot.lead is None or first is None or slot.out.offset:
                continue
            out, source = self.top(slot.out.tensor), self.top(first.tensor)
            sides = [op.in1 for op in slot.ops if op.in1 is not None and op.in1.const is None]
            twice = any(self.top(side.tensor) == source for side in sides)
            fresh = self.span[out][0] == slot.step and self.span[source][1] == slot.step + 1
            if fresh and not twice and out != source and source not in kept:
                overlaps[out, source] = max(0, slot.lead - first.offset)
        return overlaps | self._overlaps_of_bands()

    def _overlaps_of_bands(self) -> dict[tuple[str, str], int]:
        """What `patch` found, as long as neither buffer lives for anything else in that time."""
        written = {slot.out.tensor: slot.step for slot in self.lives.slots}
        found = {}
        for (below, above), least in self.lives.lowered.overlaps.items():
            last = self.lives.last[above]
            alone = (
                self.span[self.top(above)][1] == last + 1 and self.span[self.top(below)][0] == self.lives.first[below]
            )
            if alone and last < written[below] and above not in self.lives.outputs and above not in self.merged:
                found[self.top(below), self.top(above)] = least
        return found


def _quick(task: _Task) -> plan.Plan:
    return plan.solve(task.problem, budget_s=0)


def _starts(lives: _Lives) -> list[_Task]:
    """With the results of additions always on the first side, and always on the side that is older, if that differs."""
    plain = _Task(lives, frozenset())
    older = frozenset(number for number, first, second in plain.both if lives.first[second] < lives.first[first])
    return [plain, _Task(lives, older)] if older else [plain]


def _best_task(lives: _Lives) -> _Task:
    """With the result of each addition on the side that gives the smaller quick plan, tried one after the other."""
    best = min(_starts(lives), key=lambda task: _quick(task).size)
    size = _quick(best).size
    for number, _, _ in best.both:
        trial = _Task(lives, best.second ^ {number})
        found = _quick(trial).size
        if found < size:
            best, size = trial, found
    return best


def _with_room(task: _Task) -> _Task:
    """With room for faster hooks at every point where that costs no arena."""
    size, lives = _quick(task).size, task.lives
    for point in lives.points:
        trial = _Task(lives, task.second, task.room | {point.index})
        if _quick(trial).size <= size:
            task = trial
    return task
