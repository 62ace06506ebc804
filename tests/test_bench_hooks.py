"""Which inputs the hooks benchmark runs on the board, so that every path is counted and no sequence is torn."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import bench_hooks


def twin(late: int) -> Any:
    """10,000 results of one hook that acts on every other input; of three paths one is taken first by input `late`."""
    exit_hook = np.arange(10_000) % 2 - 1
    exit_hook[late] = 1
    return SimpleNamespace(decisions=np.ones((10_000, 1), np.uint8), exit_hook=exit_hook)


@pytest.mark.parametrize(("late", "inputs"), [(40, 2000), (7000, 7001)])
def test_a_sequence_runs_from_its_beginning_until_every_path_was_taken(late: int, inputs: int) -> None:
    work: Any = SimpleNamespace(sequence=True, q=np.zeros(10_000))
    assert bench_hooks.chosen(work, twin(late), 500).tolist() == list(range(inputs))


@pytest.mark.parametrize(("late", "more"), [(40, []), (7000, [7000])])
def test_of_unrelated_inputs_one_of_every_path_runs(late: int, more: list[int]) -> None:
    work: Any = SimpleNamespace(sequence=False, q=np.zeros(10_000))
    assert bench_hooks.chosen(work, twin(late), 500).tolist() == [*range(500), *more]


def test_the_mean_counts_each_path_as_often_as_the_twin_takes_it() -> None:
    result = twin(7000)
    run: Any = SimpleNamespace(
        decisions=result.decisions[[0, 1, 7000]], exit_hook=np.array([-1, 0, 1]), instructions=np.array([100, 10, 1])
    )
    assert bench_hooks.over_all(run, result) == pytest.approx((4999 * 100 + 5000 * 10 + 1) / 10_000)
