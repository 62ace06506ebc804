"""Times the training of three exits from 5,000 samples, and compares how heads learn: python scripts/bench_train.py."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np

from dhn_kit import datasets, resources
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from dhn_kit.quantize import quantize
from dhn_kit.train import Options, split_from_inputs, train
from dhn_kit.train.certify import predicted_costs, run_gated
from dhn_kit.train.data import warped
from dhn_kit.train.options import ExitShape
from dhn_kit.workflow import METHODS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--method", choices=list(METHODS), default="bp")
    parser.add_argument("--survivors", type=float, default=0.0)
    parser.add_argument("--risk", type=float, default=0.01)
    args = parser.parse_args()
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
    print(
        json.dumps(
            {
                "samples": len(hook),
                "exits": len(exits),
                "seconds": round(wall, 2),
                "cpu_seconds": round(used, 2),
                "load": round(os.getloadavg()[0], 1),
                "stages": {stage: round(s, 2) for stage, s in result.seconds.items()},
                "methods": [vars(t) for t in result.trials],
                "test": [{"cost": o.mean_cost / result.full_cost, "risk": o.risk} for o in outcomes],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
