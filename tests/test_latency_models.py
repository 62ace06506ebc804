"""The boards' latency models keep their promise: on layers that no fit saw, and on whole networks."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dhn_kit import latency_fit, latency_grid
from dhn_kit.boards import load_board
from dhn_kit.cycles import MULTIPLY
from dhn_kit.kernels import all_by_name, load_kernels
from dhn_kit.latency import load_latency

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench.py"
#: Boards whose models must be complete and keep the promise.
TARGETS = ("qemu-cortex-m4", "qemu-rv32")
#: Share of held-out layers that are predicted within 10 %.
SHARE = 0.95
#: Of a whole network's instructions.
WHOLE = 0.05
FRESH_SEED = 20_000


@pytest.mark.parametrize("board", TARGETS)
def test_held_out_layers_are_predicted_within_ten_percent(board: str) -> None:
    known = load_latency(board).kernels
    assert known.keys() <= all_by_name().keys(), "dhn-kit latency --fit drops what is gone"
    kernels = {name: k for name, k in known.items() if k.held_out}
    held_out = sum(k.held_out for k in kernels.values())
    within = sum(k.within_10 * k.held_out for k in kernels.values())
    assert within >= SHARE * held_out
    assert {n: k.within_10 for n, k in kernels.items() if k.within_10 < 0.9} == {}
    print(f"{board}: {within / held_out:.2%} of {held_out} held-out layers within 10 %, {len(kernels)} kernels")


@pytest.mark.parametrize("board", TARGETS)
def test_every_kernel_of_a_target_was_measured(board: str) -> None:
    target = load_board(board)
    kernels = load_latency(board).kernels
    missing = {k.name for k in load_kernels(target.flavour)} - {n for n, k in kernels.items() if k.held_out}
    assert not missing, f"dhn-kit latency --board {board} --fit --kernel NAME measures it"
    if target.core.name in MULTIPLY:
        assert all(1.0 < k.cpi < 2.5 for k in kernels.values())


@pytest.mark.slow
@pytest.mark.parametrize("board", TARGETS)
def test_fresh_layers_are_predicted_too(board: str, tmp_path: Path) -> None:
    target, known = load_board(board), load_latency(board).kernels
    errors = []
    for kernel in load_kernels(target.flavour):
        ops = latency_grid.grid(kernel, 8, FRESH_SEED)
        samples = latency_fit.measure(target, ops, tmp_path)
        predicted = latency_fit.predictions(known[kernel.name].terms, samples)
        errors += [abs(p / s.instructions - 1) for p, s in zip(predicted, samples, strict=True)]
    share = float((np.array(errors) <= 0.1).mean())
    print(f"{board}: {share:.2%} of {len(errors)} fresh layers within 10 %, worst {max(errors):.1%}")
    assert share >= SHARE


@pytest.mark.slow
@pytest.mark.parametrize("board", ["qemu-cortex-m7", "qemu-cortex-m33"])
def test_cores_that_share_a_model_count_alike(board: str, tmp_path: Path) -> None:
    target, known = load_board(board), load_latency(board).kernels
    assert known == load_latency("qemu-cortex-m4").kernels
    errors = []
    for name in ("dhn_conv_s8__armv7em", "dhn_depthwise_3x3_same_wide_s8__armv7em", "dhn_fc_pairs_s8__armv7em"):
        samples = latency_fit.measure(target, latency_grid.grid(all_by_name()[name], 8, FRESH_SEED), tmp_path)
        predicted = latency_fit.predictions(known[name].terms, samples)
        errors += [p / s.instructions - 1 for p, s in zip(predicted, samples, strict=True)]
    assert abs(float(np.mean(errors))) < 0.01


def whole_networks(board: str, networks: list[str], output: Path) -> dict[str, float]:
    """Relative error of the predicted instructions by network and configuration."""
    chosen = ["--board", board, "--network", *networks, "--config", "fast", "lean", "--output", str(output)]
    done = subprocess.run([sys.executable, str(SCRIPT), *chosen], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == 2 * len(networks)
    predicted = {f"{r['network']} {r['config']}": sum(o["predicted"] for o in r["ops"]) for r in rows}
    return {
        f"{r['network']} {r['config']}": predicted[f"{r['network']} {r['config']}"] / r["instructions"] - 1
        for r in rows
    }


@pytest.mark.slow
@pytest.mark.parametrize("board", ["m4", "rv32"])
def test_networks_are_predicted_within_five_percent(board: str, tmp_path: Path) -> None:
    errors = whole_networks(board, ["mobilenet", "autoencoder"], tmp_path / "k.json")
    print(f"{board}: " + ", ".join(f"{k} {e:+.1%}" for k, e in errors.items()))
    assert {k: e for k, e in errors.items() if abs(e) > WHOLE} == {}


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("board", ["m4", "rv32"])
def test_reference_networks_are_predicted_within_five_percent(board: str, reference_dir: Path, tmp_path: Path) -> None:
    assert reference_dir.is_dir()
    errors = whole_networks(board, ["ic", "kws"], tmp_path / "k.json")
    print(f"{board}: " + ", ".join(f"{k} {e:+.1%}" for k, e in errors.items()))
    assert {k: e for k, e in errors.items() if abs(e) > WHOLE} == {}
