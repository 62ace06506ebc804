"""Predicts what a kernel call costs on a board: a sum of terms over the call's shape, fitted to counted runs."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dhn_kit import expressions, resources
from dhn_kit.errors import DhnError
from dhn_kit.kernels import Kernel

#: Instructions per multiply-accumulate, per output and per call, of a kernel that was never measured. References are
#: Cortex-M4's; what is not a reference is there because it is faster.
UNMEASURED_REF = (6.0, 25.0, 60.0)
UNMEASURED = (1.5, 12.0, 60.0)


@dataclass(frozen=True)
class KernelLatency:
    """``terms``: (expression over the record's fields and `derived`, instructions per unit). ``cpi``: estimated cycles
    per instruction, 0 where nobody estimated them. ``within_10``: share of held-out layers predicted within 10 %, and
    ``worst`` the largest relative error among these ``held_out`` layers."""

    terms: tuple[tuple[str, float], ...]
    cpi: float = 0.0
    samples: int = 0
    held_out: int = 0
    within_10: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True)
class LatencyModel:
    """``kernels`` by name. A kernel that was not measured gets a coarse rule."""

    board: str = ""
    kernels: Mapping[str, KernelLatency] = field(default_factory=dict)

    def instructions(self, kernel: Kernel, values: Mapping[str, Any], macs: int, outputs: int) -> float:
        """Executed instructions of one call with these record fields."""
        known = self.kernels.get(kernel.name)
        if known is None:
            per_mac, per_output, per_call = UNMEASURED_REF if kernel.arch == "ref" else UNMEASURED
            return per_mac * macs + per_output * outputs + per_call
        scope = derived(values)
        return max(1.0, sum(k * expressions.evaluate(term, scope) for term, k in known.terms))

    def cycles(self, kernel: Kernel, values: Mapping[str, Any], macs: int, outputs: int) -> float:
        """Estimated cycles where the board has estimates, instructions otherwise."""
        known = self.kernels.get(kernel.name)
        return self.instructions(kernel, values, macs, outputs) * ((known.cpi if known else 0.0) or self._usual_cpi())

    def _usual_cpi(self) -> float:
        """For a kernel without an estimate, so that it compares with those that have one."""
        found = [k.cpi for k in self.kernels.values() if k.cpi]
        return sum(found) / len(found) if found else 1.0

    def save(self, path: Path) -> None:
        """A term to a line. DhnError: the file cannot be written."""
        kernels = {name: asdict(k) for name, k in sorted(self.kernels.items())}
        text = json.dumps({"board": self.board, "kernels": kernels}, indent=1)
        text = re.sub(r'\[\s+("[^"]*"),\s+([-+.\de]+)\s+\]', r"[\1, \2]", text)
        try:
            path.write_text(text + "\n")
        except OSError as error:
            raise DhnError(f"cannot write {path}: {error.strerror}; choose another place with --output") from error


def path_of(board: str) -> Path:
    return resources.path("boards") / f"{board}.latency.json"


def load_latency(board: str) -> LatencyModel:
    """The board's model; an empty one where its kernels were never measured.

    A file may name a board that executes the same instructions instead (``like``): its model, under its own name.
    """
    path = path_of(board)
    if not path.is_file():
        return LatencyModel(board)
    try:
        table = json.loads(path.read_text())
        if "like" in table:
            return load_latency(str(table["like"]))
        kernels = {
            name: KernelLatency(**{**k, "terms": tuple((str(t), float(v)) for t, v in k["terms"])})
            for name, k in table["kernels"].items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DhnError(f"{path}: {error}; write it anew with 'dhn-kit latency --fit --board {board}'") from error
    return LatencyModel(board, kernels)


def _runs(found: Mapping[str, int], side: str) -> int:
    """Into how many runs of neighbours the open gates of one side fall on average, if any may be open."""
    group = found[f"{side}_group"]
    if not group:
        return 1
    gates, are_open = found[f"{side}_c"] // group, found[f"{side}_open"] // group
    return are_open - are_open * (are_open - 1) // gates


@functools.cache
def _axis(out: int, stride: int, pad: int, dilation: int, kernel: int, size: int) -> tuple[int, int, int]:
    """Of one axis, over all output positions: taps inside the image, windows that lie inside as a whole, and windows
    that reach from one side of the image to the other."""
    starts = range(-pad, out * stride - pad, stride)
    inside = [sum(0 <= s + k * dilation < size for k in range(kernel)) for s in starts]
    return sum(inside), sum(n == kernel for n in inside), sum(n == size for n in inside)


@functools.cache
def _whole_groups(by: int, height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]) -> int:
    """``rows``, ``columns``: the first one whose windows lie inside, and how many do."""
    count = 0
    for y in range(rows[0], min(height, rows[0] + rows[1])):
        first = -(-(y * width + columns[0]) // by) * by
        end = min(width, columns[0] + columns[1]) + y * width
        count += max(0, (end - first) // by)
    return count


def derived(values: Mapping[str, Any]) -> dict[str, int]:
    """The record's integers, and what follows from them.

    ``taps_h``, ``taps_w``: taps inside the image, summed over the output's rows, columns. ``whole_h``, ``whole_w``:
    rows and columns of the output whose windows lie inside; ``spans_h``, ``spans_w``: whose windows reach from one
    side of the image to the other. ``whole_2`` to ``whole_4``: groups of so many pixels, counted along the whole
    image, that lie in one row and whose windows lie inside. ``shape0`` to ``shape2``. ``in_open``, ``out_open``:
    channels that gates leave open, ``nonzero``, ``nonzero_pairs``: inputs and pairs of them that are not zero
    (`sparsity`); all of them where `values` does not say. ``in_runs``, ``out_runs``: into how many runs of neighbours
    open channels usually fall.
    """
    found = {name: int(v) for name, v in values.items() if isinstance(v, int)}
    if "in_group" in found:
        found = {"in_open": found["in_c"], "out_open": found["out_c"], **found}
        found |= {f"{side}_runs": _runs(found, side) for side in ("in", "out")}
    if "rows" in found and "in_c" in found:
        found = {"nonzero": found["in_c"], "nonzero_pairs": (found["in_c"] + 3) // 4 * 2, **found}
    for i, size in enumerate(values.get("shape", ())):
        found[f"shape{i}"] = int(size)
    if "kh" in values and "out_h" in values:
        _add_windows(found)
    return found


def _add_windows(found: dict[str, int]) -> None:
    inside = []
    for axis, letter in (("h", "t"), ("w", "l")):
        out, stride, pad = found[f"out_{axis}"], found[f"stride_{axis}"], found[f"pad_{letter}"]
        dilation, kernel, size = found.get(f"dilation_{axis}", 1), found[f"k{axis}"], found[f"in_{axis}"]
        names = (f"taps_{axis}", f"whole_{axis}", f"spans_{axis}")
        found.update(zip(names, _axis(out, stride, pad, dilation, kernel, size), strict=True))
        inside.append((-(-pad // stride), found[f"whole_{axis}"]))
    for by in (2, 3, 4):
        found[f"whole_{by}"] = _whole_groups(by, found["out_h"], found["out_w"], *inside)
