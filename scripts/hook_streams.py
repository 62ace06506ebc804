"""Recipes of the hooks benchmark for sound and streams: spoken digits, a smartwatch, a camera's scene."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit import resources, streams
from dhn_kit.boards import load_board
from dhn_kit.bundle import BundleFile, bundle_file
from dhn_kit.hooks import Kind
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.strategy import board_policy
from dhn_kit.streams import Stream
from dhn_kit.train.certify import predicted_costs
from dhn_kit.train.data import Split, split_from_inputs
from dhn_kit.train.trainer import Options, train
from dhn_kit.twin import Twin

BOARD = "qemu-cortex-m4"


@dataclass
class Recipe:
    """A pack with hooks, the operating point that counts, and test inputs ``q`` (N, H, W, C) int8 with labels, -1 where
    there is nothing to recognise. ``sequence``: they follow one another in time."""

    pack: Pack
    hooks: BundleFile
    point: int
    q: npt.NDArray[np.int8]
    y: npt.NDArray[np.int64]
    sequence: bool


def fsdd(reference: Path) -> Recipe:
    """Spoken digits: exits, the thriftiest point certified at a consistency risk of 1.5 %."""
    stream = streams.fsdd(reference / "data" / "fsdd_mfcc.npz")
    return _trained(reference / "models" / "fsdd_dscnn.onnx", stream, (0.005, 0.01, 0.015), kinds=("exit",))


def smartwatch() -> Recipe:
    """Exercises, three answers a second: reuse and exits, judged by the labels.

    Where answers differ the full network is often the one that is wrong (an answer that is reused is smoother in time),
    so that what is certified is the error rate.
    """
    return _trained(
        resources.path("zoo") / "smartwatch_cnn.onnx",
        streams.smartwatch(),
        (0.02, 0.03, 0.04, 0.05, 0.06),
        kinds=("reuse", "exit"),
        copies=2,
        prune_at=0.05,
        against="label",
    )


def scene() -> Recipe:
    """Digits that hold, move and go: reuse, certified at 8 % or less (few frames of a scene are separate draws).

    No exits: a run that leaves early and errs would be repeated as long as the object stays.
    """
    model = resources.path("zoo") / "mnist_resnet8.onnx"
    return _trained(model, streams.scene(), (0.05, 0.08), kinds=("reuse",), copies=0)


def _trained(model: Path, stream: Stream, risks: tuple[float, ...], kinds: tuple[Kind, ...], **options: Any) -> Recipe:
    """Hooks trained on the stream.

    Of the certified points the thriftiest that loses at most half a point of accuracy on the calibration labels.
    """
    board = load_board(BOARD)
    latency = load_latency(board.name)
    graph = quantize(import_onnx(model), stream.calibration)
    asked = [k for k in kinds if k == "reuse"]
    packed = pack(graph, board.flavour, hooks=asked or True, latency=latency, policy=board_policy(board))
    hook, calibration = (
        split_from_inputs(packed, graph.quantize_input(stream.x[s]), stream.y[s], spacing=stream.spacing)
        for s in ("hook", "cal")
    )
    chosen = Options(kinds=kinds, risks=risks, slot_bytes=board.hook_flash.slot_bytes, **options)
    result = train(packed, hook, calibration, predicted_costs(packed, latency), chosen)
    hooks = bundle_file(packed, result.bundle)
    point = _thriftiest(packed, hooks, calibration)
    return Recipe(packed, hooks, point, graph.quantize_input(stream.x["test"]), stream.y["test"], stream.sequence)


def _thriftiest(packed: Pack, hooks: BundleFile, split: Split, most_lost: float = 0.005) -> int:
    assert split.label is not None and split.input is not None
    known = split.label >= 0
    full = np.mean(split.answer[known] == split.label[known])
    points = range(len(hooks.operating_points))
    answers = [Twin(packed, hooks.data).run(split.input, point=k).output.argmax(axis=1) for k in points]
    fitting = [k for k in points if np.mean(answers[k][known] == split.label[known]) >= full - most_lost]
    return max(fitting, default=0)
