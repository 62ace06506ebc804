"""Chooses a kernel for every op: the cheapest set that flash, scratch and the shapes allow."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dhn_kit.boards import Board
from dhn_kit.errors import DhnError
from dhn_kit.hooks import HookPoint
from dhn_kit.kernels import Kernel, all_by_name, load_kernels
from dhn_kit.latency import LatencyModel
from dhn_kit.layouts import Unfit
from dhn_kit.lower import Lowered, Op
from dhn_kit.memory import arena_bytes

Goal = Literal["cycles", "instructions"]
#: The knapsack's unit of flash: fine enough for layers of a few hundred bytes, coarse enough for a table in memory.
FLASH_UNIT = 64
#: Flash that program, runtime and kernels need beside the network's constants: what the application has, rounded up.
APPLICATION_BYTES = 40 * 1024
#: A kernel within this factor of the best one is as good, and may be taken for its smaller RAM.
AS_GOOD_AS = 1.01
#: A kernel that saves less than this share of a run is not worth its code.
CODE_IS_WORTH = 1.015
#: The very last bytes of arena would cost most of the speed: a kernel without scratch is a slow one.
RAM_FIRST_SLACK = 1.06
#: RAM that the application needs beside the arena: stack, receive ring, samples that wait for the line.
APPLICATION_RAM_BYTES = 24 * 1024


@dataclass(frozen=True)
class Policy:
    """``flash_budget``: most bytes for the constants of all ops, None: no limit. ``scratch_budget``: the most that one
    op may use, None: no limit. ``ram_budget``: most bytes of arena, None: no limit; with ``ram_first`` it is about the
    least that any choice reaches. ``goal``: what a choice minimises, estimated cycles or executed instructions.
    ``kernels``: names by op name, which are taken or refused with the reason. ``nonzero``: what `sparsity` found out
    about an op's inputs, by op name; kernels that skip zeros compete for these ops only.
    """

    flash_budget: int | None = None
    scratch_budget: int | None = None
    ram_budget: int | None = None
    ram_first: bool = False
    goal: Goal = "cycles"
    kernels: Mapping[str, str] = field(default_factory=dict)
    nonzero: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """``op`` with this kernel; ``cost`` is what the policy minimises, ``flash`` the bytes of its constants."""

    op: Op
    cost: float
    flash: int
    instructions: float = 0.0
    cycles: float = 0.0

    @property
    def footprint(self) -> int:
        """Bytes that the op needs beside its inputs: scratch, and what of the output cannot lie over them."""
        op = self.op
        if op.in_place and op.kernel.in_place:
            return op.scratch_bytes
        return op.scratch_bytes + (op.outputs if op.lead is None else min(op.outputs, op.lead))


@dataclass(frozen=True)
class Choice:
    """What was taken for one op, predicted, and why: ``others`` are (kernel, reason it was not taken)."""

    kernel: str
    instructions: float
    cycles: float
    flash: int
    scratch: int
    others: tuple[tuple[str, str], ...] = ()


def board_policy(board: Board, goal: Goal = "cycles") -> Policy:
    """The best that the board has room for beside the application."""
    flash, ram = board.memory.flash_bytes - APPLICATION_BYTES, board.memory.ram_bytes - APPLICATION_RAM_BYTES
    return Policy(flash_budget=max(0, flash), ram_budget=max(0, ram), goal=goal)


def choose(
    lowered: Lowered,
    arch: str,
    latency: LatencyModel | None = None,
    policy: Policy | None = None,
    points: Sequence[HookPoint] = (),
) -> tuple[Lowered, list[Choice]]:
    """The same ops with kernels of `arch`, and what speaks for each.

    Exact for the sum of predicted cycles (or instructions) under the flash budget: a multiple-choice knapsack, solved
    by dynamic programming over `FLASH_UNIT`. Where that needs more arena than allowed, ops get faster kernels one by
    one, the largest gains first, starting from those with the least scratch. DhnError: a named kernel does not exist or
    does not cover its op, or the flash budget is below what the smallest choice needs.
    """
    policy, latency = policy or Policy(), latency or LatencyModel()
    for name in policy.kernels.keys() - {op.name for op in lowered.ops}:
        raise DhnError(f"no operator '{name}' to choose a kernel for; 'dhn-kit inspect' lists them")
    kernels = load_kernels(arch)
    found, refused = [], []
    bands = Counter(id(op.call.consts) for op in lowered.ops)
    for op in lowered.ops:
        candidates, reasons = _candidates(op, kernels, latency, policy)
        # Bands of one operator have their constants in common: each pays its share.
        share = bands[id(op.call.consts)]
        found.append([dataclasses.replace(c, flash=-(-c.flash // share)) for c in candidates])
        refused.append(reasons)
    picked = affordable(found, policy.flash_budget)
    picked = [_smallest_of_equals(p, c) for p, c in zip(picked, found, strict=True)]
    if policy.ram_first or policy.ram_budget is not None:
        picked = _Ram(lowered, list(points), found, policy).fit(picked)
    picked = _fewer_kernels(picked, found, policy, _Ram(lowered, list(points), found, policy))
    ops = [c.op for c in picked]
    choices = [_choice(p, c, r, policy) for p, c, r in zip(picked, found, refused, strict=True)]
    return dataclasses.replace(lowered, ops=ops), choices


def candidates_of(lowered: Lowered, arch: str, latency: LatencyModel, policy: Policy) -> list[list[Candidate]]:
    """Of each op, every kernel of `arch` that covers it, priced by the policy's goal."""
    kernels = load_kernels(arch)
    return [_candidates(op, kernels, latency, policy)[0] for op in lowered.ops]


def affordable(layers: Sequence[list[Candidate]], budget: int | None) -> list[Candidate]:
    """One candidate of each layer: the least sum of costs that fits so many bytes of flash. DhnError: none does."""
    return _knapsack([_useful(layer) for layer in layers], budget)


def choose_for_hooks(
    lowered: Lowered, kernels: Sequence[Kernel], scratch_budget: int, latency: LatencyModel | None = None
) -> Lowered:
    """The same ops, each with the fastest of these kernels that covers it."""
    policy = Policy(scratch_budget=scratch_budget)
    ops = []
    for op in lowered.ops:
        candidates, _ = _candidates(op, kernels, latency or LatencyModel(), policy)
        ops.append(min(candidates, key=lambda c: c.cost).op)
    return dataclasses.replace(lowered, ops=ops)


def _candidates(
    op: Op, kernels: Sequence[Kernel], latency: LatencyModel, policy: Policy
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Kernels that cover the op, and why the others of its operator do not."""
    wanted, nonzero = policy.kernels.get(op.name), policy.nonzero.get(op.name)
    candidates, reasons = [], []
    for kernel in _named(op, wanted) if wanted else (k for k in kernels if k.op == op.call.op):
        if kernel.sparse and nonzero is None and not wanted:
            reasons.append((kernel.name, "needs to know how often inputs are zero"))
            continue
        try:
            made = op.with_kernel(kernel)
        except Unfit as reason:
            reasons.append((kernel.name, str(reason)))
            continue
        if policy.scratch_budget is not None and made.scratch_bytes > policy.scratch_budget:
            reasons.append((kernel.name, f"needs {made.scratch_bytes} bytes of scratch"))
            continue
        candidates.append(_priced(made, latency, policy.goal, nonzero or {}))
    if not candidates:
        name, why = reasons[0]
        raise DhnError(f"kernel {name} cannot run '{op.name}': {why}; choose another one, or none")
    return candidates, reasons


def _priced(op: Op, latency: LatencyModel, goal: Goal, nonzero: Mapping[str, int]) -> Candidate:
    shape = (op.kernel, {**op.prepared.values, **nonzero}, op.macs, op.outputs)
    instructions, cycles = latency.instructions(*shape), latency.cycles(*shape)
    cost = cycles if goal == "cycles" else instructions
    return Candidate(op, cost, op.prepared.const_bytes, instructions, cycles)


def _named(op: Op, name: str) -> list[Kernel]:
    kernel = all_by_name().get(name)
    if kernel is None or kernel.op != op.call.op:
        fitting = ", ".join(k.name for k in all_by_name().values() if k.op == op.call.op)
        raise DhnError(f"'{op.name}' ({op.call.op}) has no kernel '{name}'; there are {fitting}")
    return [kernel]


def _useful(candidates: list[Candidate]) -> list[Candidate]:
    """Without those that another one beats in instructions at no more flash; by rising flash."""
    front: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: (c.flash, c.cost, c.footprint)):
        if not front or c.cost < front[-1].cost:
            front.append(c)
    return front


def _knapsack(layers: list[list[Candidate]], budget: int | None) -> list[Candidate]:
    if budget is None:
        return [layer[-1] for layer in layers]
    least = sum(layer[0].flash for layer in layers)
    if least > budget:
        raise DhnError(f"the network's constants need {least} bytes of flash, the budget is {budget}; raise it")
    # Every layer's smallest choice is paid already: only what the others need beyond it competes.
    room = (budget - least) // FLASH_UNIT
    best = np.zeros(room + 1)
    steps: list[np.ndarray] = []
    for layer in layers:
        options = np.full((len(layer), room + 1), np.inf)
        for i, c in enumerate(layer):
            extra = -(-(c.flash - layer[0].flash) // FLASH_UNIT)
            if extra <= room:
                options[i, extra:] = best[: room + 1 - extra] + c.cost
        steps.append(options.argmin(axis=0))
        best = options.min(axis=0)
    picked: list[Candidate] = []
    at = room
    for layer, step in zip(reversed(layers), reversed(steps), strict=True):
        c = layer[int(step[at])]
        at -= -(-(c.flash - layer[0].flash) // FLASH_UNIT)
        picked.append(c)
    return picked[::-1]


def _smallest_of_equals(picked: Candidate, candidates: list[Candidate]) -> Candidate:
    """The one that needs least RAM among those that cost as good as nothing more."""
    equal = [c for c in candidates if c.cost <= picked.cost * AS_GOOD_AS and c.flash <= picked.flash + FLASH_UNIT]
    return min(equal, key=lambda c: (c.footprint, c.cost))


def _fewer_kernels(picked: list[Candidate], found: list[list[Candidate]], policy: Policy, ram: _Ram) -> list[Candidate]:
    """Does without kernels that hardly save anything: each one's code takes some hundred bytes of flash."""
    spare = sum(c.cost for c in picked) * (CODE_IS_WORTH - 1)
    arena = ram.arena(picked)
    while True:
        now, code = sum(c.cost for c in picked), _code(picked)
        tries = itertools.product(sorted(code[0]), (False, True))
        trials = [t for name, siblings in tries if (t := _without(name, picked, found, siblings))]
        for trial in sorted(trials, key=lambda t: sum(c.cost for c in t)):
            extra, flash, left = sum(c.cost for c in trial) - now, sum(c.flash for c in trial), _code(trial)
            fits = policy.flash_budget is None or flash <= policy.flash_budget
            smaller = len(left[0]) < len(code[0]) or len(left[1]) < len(code[1])
            if smaller and extra <= spare and fits and ram.arena(trial) <= arena:
                picked, spare = trial, spare - max(0.0, extra)
                break
        else:
            return picked


def _code(picked: list[Candidate]) -> tuple[set[str], set[str]]:
    """Kernels that only this network needs, and the source files that they come from."""
    own = [c.op.kernel for c in picked if not c.op.kernel.hooks]  # those for hooks are linked in any case
    return {k.name for k in own}, {k.source for k in own}


def _without(
    name: str, picked: list[Candidate], found: list[list[Candidate]], siblings: bool
) -> list[Candidate] | None:
    """`picked` with one kernel replaced by others that are there already, or (``siblings``) that share a file with
    them; None: an op has no other."""
    rest = [c.op.kernel for c in picked if c.op.kernel.name != name]
    names, sources = {k.name for k in rest}, {k.source for k in rest}
    trial = []
    for now, layer in zip(picked, found, strict=True):
        kernels = [(c, c.op.kernel) for c in layer if c.op.kernel.name != name]
        others = [c for c, k in kernels if k.name in names or (siblings and k.source in sources)]
        if now.op.kernel.name == name and not others:
            return None
        trial.append(min(others, key=lambda c: c.cost) if now.op.kernel.name == name else now)
    return trial


class _Ram:
    """Trades instructions for arena."""

    def __init__(self, lowered: Lowered, points: list[HookPoint], found: list[list[Candidate]], policy: Policy) -> None:
        self.lowered, self.points, self.found, self.policy = lowered, points, found, policy

    def arena(self, picked: Sequence[Candidate]) -> int:
        return arena_bytes(dataclasses.replace(self.lowered, ops=[c.op for c in picked]), self.points)[0]

    def fit(self, picked: list[Candidate]) -> list[Candidate]:
        """`picked` where it fits; else the best found that does, or the one with the smallest arena."""
        budget = self.policy.ram_budget
        if not self.policy.ram_first and (budget is None or self.arena(picked) <= budget):
            return picked
        least = self._least()
        smallest = self.arena(least)
        limit = round(smallest * RAM_FIRST_SLACK) if self.policy.ram_first or budget is None else max(budget, smallest)
        return self._improve(least, limit)

    def _least(self) -> list[Candidate]:
        """Smallest footprints; where flash is short, the layers that save most of it fall back to small constants."""
        least = [min(layer, key=lambda c: (c.footprint, c.cost)) for layer in self.found]
        small = [min(layer, key=lambda c: (c.flash, c.footprint, c.cost)) for layer in self.found]
        budget = self.policy.flash_budget
        while budget is not None and sum(c.flash for c in least) > budget:
            i = max(range(len(least)), key=lambda i: least[i].flash - small[i].flash)
            least[i] = small[i]
        return least

    def _improve(self, picked: list[Candidate], limit: int) -> list[Candidate]:
        """Faster kernels, the largest gain first, as long as arena and flash hold them."""
        steps = [(picked[i].cost - c.cost, i, c) for i, layer in enumerate(self.found) for c in layer]
        flash = sum(c.flash for c in picked)
        for _, i, c in sorted(steps, key=lambda s: -s[0]):
            more = flash - picked[i].flash + c.flash
            if c.cost >= picked[i].cost or (self.policy.flash_budget is not None and more > self.policy.flash_budget):
                continue
            trial = [*picked[:i], c, *picked[i + 1 :]]
            if self.arena(trial) <= limit:
                picked, flash = trial, more
        return picked


def _why_not(c: Candidate, picked: Candidate, policy: Policy) -> str:
    if c.cost >= picked.cost:
        return f"{c.cost / max(picked.cost, 1.0):.2f}x the {policy.goal}"
    gain = f"-{1 - c.cost / picked.cost:.0%}"
    if c.flash > picked.flash:
        return f"{gain} for {c.flash - picked.flash:,} B flash"
    if c.footprint > picked.footprint:
        return f"{gain} for {c.footprint - picked.footprint:,} B RAM"
    return f"{gain}, not worth its code"


def _choice(picked: Candidate, candidates: list[Candidate], refused: list[tuple[str, str]], policy: Policy) -> Choice:
    others = []
    for c in sorted(candidates, key=lambda c: c.cost):
        if c.op.kernel is not picked.op.kernel:
            others.append((c.op.kernel.name, _why_not(c, picked, policy)))
    op, reasons = picked.op, (*others, *refused)
    return Choice(op.kernel.name, picked.instructions, picked.cycles, picked.flash, op.scratch_bytes, reasons)
