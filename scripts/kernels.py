#!/usr/bin/env python
"""Counts and checks single kernels on an emulated core: what a kernel's author calls after every change."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import kernel_cases as kc
from dhn_kit import kernel_rig
from dhn_kit.boards import load_board
from dhn_kit.errors import DhnError
from dhn_kit.kernels import load_kernels, reference_kernels

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: scripts/kernels.py --board qemu-cortex-m4 --kernel '*conv*armv7em'",
    )
    parser.add_argument("--board", default="qemu-cortex-m4", help="emulated board, or 'twin' (checks, counts nothing)")
    parser.add_argument("--arch", help="folder of mcu_kernels, with what it falls back to; default: the board's")
    parser.add_argument("--kernel", default="*", help="pattern of kernel names, e.g. '*3x3*'")
    parser.add_argument("--layer", default="*", help="pattern of layer names, or a whole one")
    parser.add_argument("--all", action="store_true", help="odd shapes and extreme numbers too, not only real layers")
    parser.add_argument("--ref", action="store_true", help="reference kernels too")
    return parser.parse_args()


def is_wanted(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def main() -> int:
    args = arguments()
    twin = args.board == "twin"
    board = load_board("qemu-cortex-m4" if twin else args.board)
    board = dataclasses.replace(board, flavour=args.arch or board.flavour)
    kernels = [k for k in load_kernels(board.flavour) if is_wanted(k.name, args.kernel)]
    kernels = [k for k in kernels if args.ref or k.arch != "ref" or k.name == args.kernel]
    layers = [x for x in kc.all_layers() if is_wanted(x.name, args.layer)]
    layers = [x for x in layers if x.real or args.all or x.name == args.layer]
    some = slice(None) if args.all else slice(1)
    jobs = [(x, k, c) for x in layers for k in kernels for c in kc.cases_of(k, x)[some]]
    if not jobs:
        print("no such kernel takes such a layer; give other patterns, or --all for odd shapes")
        return 1
    cases = [c for _, _, c in jobs]
    if twin:
        outcomes = kernel_rig.run_on_twin(cases)
    else:
        outcomes = kernel_rig.run_cases(board, cases, ROOT / "build" / "rig" / f"{board.name}-{board.flavour}")
    expected = {x.name: kc.case_of(reference_kernels()[x.call.op], x) for x, _, _ in jobs}
    answers = dict(zip(expected, kernel_rig.run_on_twin(list(expected.values())), strict=True))
    heads = ("instructions", "per MAC", "per out", "scratch", "consts")
    print(f"{'layer':38} {'kernel':36} {heads[0]:>12} {heads[1]:>8} {heads[2]:>8} {heads[3]:>7} {heads[4]:>7} equal")
    bad = 0
    for (layer, kernel, case), outcome in zip(jobs, outcomes, strict=True):
        equal = outcome.output == answers[layer.name].output and not outcome.faults
        bad += not equal
        per_mac = f"{outcome.instructions / layer.macs:8.3f}" if layer.macs else f"{'':8}"
        how = "" if case.lead is None else f" lead {case.lead} of input {case.over}"
        how += f" skew {case.skew}" if case.skew != (0, 0) else ""
        print(
            f"{layer.name:38} {kernel.name:36} {outcome.instructions:12,} {per_mac} "
            f"{outcome.instructions / layer.out_bytes:8.2f} {case.scratch_bytes:7,} {len(case.consts):7,} "
            f"{'yes' if equal else 'NO: ' + (', '.join(outcome.faults) or 'differs from ref')}{how}"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DhnError as error:
        sys.exit(f"kernels.py: {error}")
