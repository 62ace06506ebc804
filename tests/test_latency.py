"""Latency models: terms that count loops, the fit on synthetic and on counted calls, what the boards' files promise."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dhn_kit import cli, cycles, latency_fit, latency_grid
from dhn_kit.boards import load_board
from dhn_kit.errors import DhnError
from dhn_kit.kernels import Kernel, all_by_name
from dhn_kit.latency import derived
from dhn_kit.latency_fit import Sample, fit_kernel

CONV = all_by_name()["dhn_conv_s8__ref"]


def whole_groups(v: dict[str, Any], by: int) -> int:
    """By looking at every pixel."""

    def inside(pixel: int) -> bool:
        y, x = divmod(pixel, v["out_w"])
        top, left = y * v["stride_h"] - v["pad_t"], x * v["stride_w"] - v["pad_l"]
        below, right = top + (v["kh"] - 1) * v["dilation_h"], left + (v["kw"] - 1) * v["dilation_w"]
        return bool(top >= 0 and left >= 0 and below < v["in_h"] and right < v["in_w"])

    groups = [range(first, first + by) for first in range(0, v["out_h"] * v["out_w"] - by + 1, by)]
    return sum(all(map(inside, g)) and g[0] // v["out_w"] == g[-1] // v["out_w"] for g in groups)


def test_windows_inside_the_image_are_counted_as_by_hand() -> None:
    for op in latency_grid.grid(CONV, 60, seed=5):
        v = dict(op.prepared.values)
        found = derived(v)
        assert found["whole_h"] * found["whole_w"] == whole_groups(v, 1)
        assert [found[f"whole_{by}"] for by in (2, 3, 4)] == [whole_groups(v, by) for by in (2, 3, 4)]
        rows = itertools.product(range(v["out_h"]), range(v["kh"]))
        assert found["taps_h"] == sum(0 <= y * v["stride_h"] - v["pad_t"] + k < v["in_h"] for y, k in rows)


def made_up(kernel: Kernel, count: int, seed: int = 0) -> list[Sample]:
    """A kernel of three pixels by two channels by four products."""
    samples = []
    for op in latency_grid.grid(kernel, count, seed):
        v = op.prepared.values
        groups, pairs = -(-v["out_h"] * v["out_w"] // 3), -(-v["out_c"] // 2)
        steps = -(-v["kh"] * v["kw"] * v["in_c"] // 4)
        samples.append(Sample(v, 90 + groups * (40 + 9 * v["kh"] + pairs * (50 + 17 * steps))))
    return samples


def test_the_fit_finds_a_kernels_tiles_by_itself() -> None:
    samples = made_up(CONV, 90)
    found = fit_kernel(CONV, samples[30:], samples[:30])
    assert found.within_10 == 1.0 and found.worst < 0.005
    pairs = "((out_h * out_w + 2) // 3) * ((out_c + 1) // 2)"
    assert dict(found.terms)[f"{pairs} * ((kh * kw * in_c + 3) // 4)"] == pytest.approx(17, rel=0.01)
    assert dict(found.terms)[pairs] == pytest.approx(50, rel=0.02)
    assert found == fit_kernel(CONV, samples[30:], samples[:30])


def test_the_authors_terms_come_first() -> None:
    pixels, pairs = "(out_h * out_w + 2) // 3", "((out_c + 1) // 2)"
    own = (pixels, f"{pixels} * kh", f"{pixels} * {pairs}", f"{pixels} * {pairs} * ((kh * kw * in_c + 3) // 4)")
    kernel = dataclasses.replace(CONV, work=own)
    samples = made_up(CONV, 60)
    found = fit_kernel(kernel, samples[20:], samples[:20]).terms
    assert found == tuple(zip(("1", *own), (90.0, 40.0, 9.0, 50.0, 17.0), strict=True))


def test_authors_terms_that_fit_badly_are_passed_over() -> None:
    kernel = dataclasses.replace(CONV, work=("out_c",))
    samples = made_up(CONV, 90)
    assert fit_kernel(kernel, samples[30:], samples[:30]).within_10 == 1.0


def test_authors_terms_with_an_unknown_name_are_refused() -> None:
    kernel = dataclasses.replace(CONV, work=("out_h * chanels",))
    with pytest.raises(DhnError, match="dhn_conv_s8__ref: no 'chanels' in work 'out_h \\* chanels'; there are act_max"):
        fit_kernel(kernel, made_up(CONV, 12), [])


def test_a_few_counted_layers_predict_others(tmp_path: Path) -> None:
    kernel = all_by_name()["dhn_mean_s8__ref"]
    samples = latency_fit.measure(load_board("qemu-cortex-m4"), latency_grid.grid(kernel, 30), tmp_path)
    found = fit_kernel(kernel, samples[10:], samples[:10])
    assert found.within_10 == 1.0 and found.samples == 20 and found.held_out == 10


def test_cycles_follow_the_published_timings(tmp_path: Path) -> None:
    """Fully connected: 30 instructions per turn, of them four LDM of four registers and a taken branch."""
    kernel = all_by_name()["dhn_fc_pairs_s8__armv7em"]
    op = next(o for o in latency_grid.grid(kernel, 40) if o.macs > 60_000)
    found = cycles.estimate(load_board("qemu-cortex-m4"), [latency_grid.case_of(op, 0)], tmp_path)
    assert found == {kernel.name: pytest.approx((30 + 4 * 4 + 2) / 30, rel=0.03)}


def test_cycles_of_single_instructions() -> None:
    def cost(name: str, operands: str = "", before: str = "", jumps: bool = False) -> int:
        ahead = cycles.decode(0, 2, before, "r1, [r2]") if before else None
        return cycles.cycles_of(cycles.decode(2, 4, name, operands), 100 if jumps else 4, ahead, {})

    assert (cost("add"), cost("smlad"), cost("udiv"), cost("beq.n"), cost("bne.w", jumps=True)) == (1, 1, 7, 1, 3)
    assert (cost("ldr", "r0, [r3]"), cost("ldr", "r0, [r3]", "ldr"), cost("ldr", "r0, [r1, #4]", "ldr")) == (2, 1, 2)
    assert (cost("ldr", "r0, [r3]", "str"), cost("str", "r0, [r3, #4]"), cost("strb", "r0, [r3, r4]")) == (2, 1, 2)
    assert (cost("ldmia.w", "r11!, {r1, r2, r3}"), cost("pop", "{r4-r9, pc}", jumps=True), cost("ldrd")) == (4, 10, 3)


def test_the_command_shows_and_fits_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m4.json"
    words = ["latency", "--board", "qemu-cortex-m4", "--kernel", "dhn_mean_s8__ref"]
    with pytest.raises(SystemExit) as done:
        cli.main([*words, "--fit", "--output", str(file), "--json"])
    assert not done.value.code
    shown = json.loads(capsys.readouterr().out)["kernels"]["dhn_mean_s8__ref"]
    assert shown["within_10"] == 1.0 and 1.0 < shown["cpi"] < 2.0
    assert json.loads(file.read_text())["kernels"]["dhn_mean_s8__ref"] == shown
    with pytest.raises(SystemExit):
        cli.main([*words, "--terms"])
    assert "pixels" in capsys.readouterr().out


def test_the_command_sums_held_out_layers_by_operator(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["latency", "--board", "qemu-rv32"])
    groups, _, total = capsys.readouterr().out.partition("By operator")[2].rpartition("\n\n")
    numbers = [re.findall(r"  +([\d,]+)", row)[:2] for row in groups.splitlines()[2:]]
    kernels, layers = (sum(int(row[i].replace(",", "")) for row in numbers) for i in (0, 1))
    assert len(numbers) == 5
    assert f"of {layers:,} held-out layers within 10 %; {kernels} of" in total


def test_the_command_refuses_what_it_cannot_fit(capsys: pytest.CaptureFixture[str]) -> None:
    for words, complaint in (
        (("--board", "posix", "--fit"), "posix does not count instructions; fit the model of an emulated board"),
        (("--kernel", "nothing"), "no kernel of qemu-cortex-m4 matches 'nothing'"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["latency", *words])
        assert complaint in capsys.readouterr().err
