"""Kernel choice: the knapsack against an exhaustive search, budgets, named kernels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import itertools
import random
from types import SimpleNamespace
from typing import Any

import pytest

from dhn_kit import strategy
from dhn_kit.errors import DhnError
from dhn_kit.kernels import reference_kernels
from dhn_kit.latency import KernelLatency, LatencyModel
from dhn_kit.lower import lower
from dhn_kit.strategy import Candidate, Policy, choose
from nets import residual_net


def candidate(flash: int, cost: float) -> Candidate:
    op: Any = SimpleNamespace(scratch_bytes=0, in_place=False, lead=0, outputs=0)
    return Candidate(op, cost, flash)


@pytest.mark.parametrize("seed", range(20))
def test_budget_is_spent_as_well_as_an_exhaustive_search_would(seed: int) -> None:
    rng = random.Random(seed)
    unit = strategy.FLASH_UNIT
    layers = []
    for _ in range(5):
        flash = rng.randrange(1, 30) * unit
        layer = [candidate(flash + unit * rng.randrange(1, 60) * k, rng.randrange(10, 1000)) for k in range(4)]
        layers.append(strategy._useful(layer))
    budget = sum(layer[0].flash for layer in layers) + unit * rng.randrange(0, 200)
    picked = strategy._knapsack(layers, budget)
    assert sum(c.flash for c in picked) <= budget
    fitting = (c for c in itertools.product(*layers) if sum(x.flash for x in c) <= budget)
    assert sum(c.cost for c in picked) == min(sum(x.cost for x in c) for c in fitting)


def test_budget_below_the_smallest_choice_says_what_is_needed() -> None:
    lowered = lower(residual_net()[0])
    with pytest.raises(DhnError, match=r"need \d+ bytes of flash, the budget is 10"):
        choose(lowered, "ref", None, Policy(flash_budget=10))


def test_a_named_kernel_is_taken_or_refused_by_name() -> None:
    lowered = lower(residual_net()[0])
    name = lowered.ops[0].name
    chosen, choices = choose(lowered, "ref", None, Policy(kernels={name: "dhn_conv_s8__ref"}))
    assert chosen.ops[0].kernel.name == choices[0].kernel == "dhn_conv_s8__ref"
    with pytest.raises(DhnError, match=f"'{name}' .* has no kernel 'dhn_add_s8__ref'; there are dhn_conv_s8__ref"):
        choose(lowered, "ref", None, Policy(kernels={name: "dhn_add_s8__ref"}))


def test_scratch_budget_excludes_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = lower(residual_net()[0])
    greedy = dataclasses.replace(lowered.ops[0].kernel, name="greedy", scratch="in_c * 1000")
    monkeypatch.setattr(strategy, "load_kernels", lambda arch: (greedy, *reference_kernels().values()))
    fast = LatencyModel(kernels={"greedy": KernelLatency((("1", 1.0),))})
    free, _ = choose(lowered, "any", fast)
    tight, choices = choose(lowered, "any", fast, Policy(scratch_budget=100))
    assert free.ops[0].kernel.name == "greedy"
    assert tight.ops[0].scratch_bytes <= 100
    assert ("greedy", "needs 3000 bytes of scratch") in choices[0].others
