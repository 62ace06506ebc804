"""Times the training of three exits from 5,000 samples; --compare: heads by back-propagation and Forward-Forward."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from dhn_kit import datasets, resources, streams
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.train import Options, Split, split_from_inputs, train
from dhn_kit.train.certify import predicted_costs, run_gated
from dhn_kit.train.data import warped
from dhn_kit.train.fitting import Clock, fit_hooks
from dhn_kit.train.options import ExitShape
from dhn_kit.workflow import METHODS

ROOT = Path(__file__).resolve().parents[1]
#: Hidden units of the heads that are compared: a linear head has nothing to learn locally.
WIDTHS = (16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--method", choices=list(METHODS), default="bp")
    parser.add_argument("--survivors", type=float, default=0.0)
    parser.add_argument("--risk", type=float, default=0.01)
    parser.add_argument("--compare", action="store_true", help="heads of MNIST and spoken digits by both methods")
    reference = Path(os.environ.get("DHN_REFERENCE") or ROOT.parent / "shared")
    parser.add_argument("--reference", type=Path, default=reference, help="folder with the spoken digits")
    args = parser.parse_args()
    if args.compare:
        compare(args.reference)
    else:
        print(json.dumps(timed(args), indent=1))


def timed(args: argparse.Namespace) -> dict[str, Any]:
    """One training: seconds, CPU seconds, per stage, and what it is good for on test images."""
    data = datasets.load("mnist")
    graph = quantize(import_onnx(resources.path("zoo") / "mnist_resnet8.onnx"), data.x_train[:200])
    packed = pack(graph)
    images = graph.quantize_input(np.concatenate([data.x_train, data.x_hook]))
    # The data set has 2,800 images to spare: warped ones are samples like any other to the trainer.
    more = -(-args.samples // len(images)) - 1
    hook = split_from_inputs(packed, np.concatenate([images, warped(images, more, 1)])[: args.samples])
    calibration = split_from_inputs(packed, graph.quantize_input(data.x_cal), data.y_cal)
    test = split_from_inputs(packed, graph.quantize_input(data.x_test), data.y_test)
    exits = tuple(ExitShape(p.index, 64) for p in packed.points[1:4])
    options = Options(
        kinds=("exit",), exits=exits, risks=(args.risk,), methods=METHODS[args.method], survivors=args.survivors
    )
    cpu, began = time.process_time(), time.perf_counter()
    result = train(packed, hook, calibration, options=options)
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    outcomes = run_gated(packed, result.bundle, test, predicted_costs(packed)) if result.bundle.hooks else []
    return {
        "samples": len(hook),
        "exits": len(exits),
        "seconds": round(wall, 2),
        "cpu_seconds": round(used, 2),
        "load": round(os.getloadavg()[0], 1),
        "stages": {stage: round(s, 2) for stage, s in result.seconds.items()},
        "methods": [vars(t) for t in result.trials],
        "test": [{"cost": o.mean_cost / result.full_cost, "risk": o.risk} for o in outcomes],
    }


def compare(reference: Path) -> None:
    """Heads at every hook point, by both methods from the same samples: accuracy on test data, seconds of CPU time."""
    worst = 0.0
    print("network  head                          hidden    bp      ff   points  bp s  ff s")
    for name, (packed, hook, test) in {"mnist": mnist(), "fsdd": fsdd(reference)}.items():
        for hidden in WIDTHS:
            (bp, bp_seconds), (ff, ff_seconds) = (heads(packed, hook, test, hidden, m) for m in ("bp", "ff"))
            for head, right in bp.items():
                gain = 100 * (ff[head] - right)
                worst = min(worst, gain)
                print(
                    f"{name:8} {head:30} {hidden:5}  {right:6.2%}  {ff[head]:6.2%}  {gain:+5.2f}"
                    f"  {bp_seconds / len(bp):4.1f}  {ff_seconds / len(ff):4.1f}",
                    flush=True,
                )
    print(f"Forward-Forward is at most {-worst:.2f} points below back-propagation")


def heads(packed: Pack, hook: Split, test: Split, hidden: int, method: str) -> tuple[dict[str, float], float]:
    """Test accuracy of a head with so many hidden units at each hook point, and CPU seconds for all."""
    points = [p for p in packed.points if not p.final]
    shapes = tuple(ExitShape(p.index, hidden) for p in points)
    clock = time.process_time()
    options = Options(kinds=("exit",), exits=shapes, methods=METHODS[method])
    with threadpool_limits(limits=1, user_api="blas"):
        fitted = fit_hooks(packed, hook, predicted_costs(packed), options, Clock())
    accuracy = {}
    for point in points:
        x = point.tap_quant.dequantize(test.features[point.index])
        name = f"exit at {point.name}"
        if len(fitted.heads[name].layers) > 1:
            accuracy[name] = float(np.mean(fitted.heads[name](x).argmax(axis=1) == test.label))
    return accuracy, time.process_time() - clock


def mnist() -> tuple[Pack, Split, Split]:
    data = datasets.load("mnist")
    graph = quantize(import_onnx(resources.path("zoo") / "mnist_resnet8.onnx"), data.x_train[:200])
    packed = pack(graph)
    hook = split_from_inputs(packed, graph.quantize_input(data.x_hook), data.y_hook)
    return packed, hook, split_from_inputs(packed, graph.quantize_input(data.x_test), data.y_test)


def fsdd(reference: Path) -> tuple[Pack, Split, Split]:
    stream = streams.fsdd(reference / "data" / "fsdd_mfcc.npz")
    graph = quantize(import_onnx(reference / "models" / "fsdd_dscnn.onnx"), stream.calibration)
    packed = pack(graph)
    hook, test = (split_from_inputs(packed, graph.quantize_input(stream.x[s]), stream.y[s]) for s in ("hook", "test"))
    return packed, hook, test


if __name__ == "__main__":
    main()
