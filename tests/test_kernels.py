"""Every kernel of every architecture equals the reference, in the twin and on an emulated core, inside its buffers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import functools
import shlex
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernel_cases as kc
from dhn_kit import kernel_rig
from dhn_kit.boards import list_boards, load_board
from dhn_kit.kernel_rig import Case, Outcome
from dhn_kit.kernels import Kernel, list_architectures, load_architecture, reference_kernels

#: The boards on which an architecture's own kernels run; the first always, the others in the long run.
BOARDS = {
    "ref": ("qemu-cortex-m4", "qemu-cortex-m3", "qemu-rv32", "qemu-xtensa"),
    "portable": ("qemu-cortex-m3", "qemu-rv32", "qemu-xtensa"),
    "armv7em": ("qemu-cortex-m4", "qemu-cortex-m7", "qemu-cortex-m33"),
    "mve": ("qemu-cortex-m55",),
    "rv32imc": ("qemu-rv32",),
    "xtensa": ("qemu-xtensa",),
}
#: Fewest cases that a kernel must have been tried on.
FEWEST = 3
#: Instructions by which a count may be off where a tick is worth tens of them.
EXACT = 2

KERNELS = [k for arch in list_architectures() for k in load_architecture(arch).kernels]
#: Of the layers with extreme numbers one in so many runs on an emulated core, unless in the long run.
THINNED = 6


def core_runs() -> Iterator[Any]:
    """(architecture, board, all layers?): the first board thinned; in the long run every board and every layer."""
    for arch in list_architectures():
        boards = [b for b in BOARDS[arch] if b in list_boards()]
        yield pytest.param(arch, boards[0], False, id=f"{arch}-{boards[0]}")
        for board in boards:
            yield pytest.param(arch, board, True, id=f"{arch}-{board}-all", marks=pytest.mark.exhaustive)


@functools.cache
def expected(name: str) -> bytes:
    """What the reference computes for a layer."""
    layer = LAYERS[name]
    return kernel_rig.run_on_twin([kc.case_of(reference_kernels()[layer.call.op], layer)])[0].output


LAYERS = {layer.name: layer for layer in kc.all_layers()}
Job = tuple[kc.Layer, Case]


def jobs_of(kernels: Sequence[Kernel]) -> list[Job]:
    return [(layer, case) for k in kernels for layer in LAYERS.values() for case in kc.cases_of(k, layer)]


def is_thinned_out(layer: kc.Layer, case: Case) -> bool:
    return layer.extreme and zlib.crc32(f"{layer.name} {case.kernel.name}".encode()) % THINNED != 0


def describe(layer: kc.Layer, case: Case) -> str:
    how = "apart" if case.lead is None else f"output {case.lead} bytes below input {case.over}"
    return f"{case.kernel.name}: {layer.name}, {how}, skew {case.skew}"


def wrong(jobs: Sequence[Job], outcomes: Sequence[Outcome], board: str) -> list[str]:
    """One line per case that failed, the first one with a command that repeats it."""
    lines = []
    for (layer, case), outcome in zip(jobs, outcomes, strict=True):
        want = expected(layer.name)
        faults = list(outcome.faults)
        if outcome.output != want:
            bad = [i for i, (a, b) in enumerate(zip(outcome.output, want, strict=False)) if a != b]
            faults.append(f"{len(bad)} of {len(want)} outputs differ from the reference, first number {bad[:1]}")
        if faults:
            lines.append(f"{describe(layer, case)}: {', '.join(faults)}")
            if len(lines) == 1:
                words = ["scripts/kernels.py", "--board", board, "--kernel", case.kernel.name, "--layer", layer.name]
                lines.append("repeat with: " + shlex.join(words))
    return lines


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_a_kernel_equals_the_reference_in_the_twin(kernel: Kernel) -> None:
    jobs = jobs_of([kernel])
    assert len({layer.name for layer, _ in jobs}) >= FEWEST, "give kernel_cases.py layers that this kernel takes"
    if kernel.lead is not None:
        assert sum(case.lead is not None for _, case in jobs) >= FEWEST
    assert not (lines := wrong(jobs, kernel_rig.run_on_twin([case for _, case in jobs]), "twin")), "\n".join(lines[:20])


@pytest.mark.parametrize(("arch", "board", "everything"), list(core_runs()))
def test_an_architecture_equals_the_reference_on_its_core(
    arch: str, board: str, everything: bool, tmp_path: Path
) -> None:
    jobs = [j for j in jobs_of(load_architecture(arch).kernels) if everything or not is_thinned_out(*j)]
    target = dataclasses.replace(load_board(board), flavour=arch)
    outcomes = kernel_rig.run_cases(target, [case for _, case in jobs], tmp_path, count=False)
    assert not (lines := wrong(jobs, outcomes, board)), "\n".join(lines[:20])
    print(f"{board}: {len(jobs)} cases of {len(load_architecture(arch).kernels)} kernels of '{arch}' equal ref")


EMULATED = [name for name in list_boards() if load_board(name).timer.instructions_per_tick]


@pytest.mark.parametrize("board", EMULATED)
def test_a_thousand_instructions_count_as_a_thousand(board: str, tmp_path: Path) -> None:
    stub = reference_kernels()["fill"]
    own = [Case(dataclasses.replace(stub, id=k), b"", b"", b"", None, 0, 0) for k in (0, 1, 2)]
    counts = [o.instructions for o in kernel_rig.run_cases(load_board(board), own, tmp_path)]
    assert all(abs(a - b) <= EXACT for a, b in zip(counts, (0, 1000, 4000), strict=True)), counts


def test_the_rig_sees_a_kernel_that_writes_beside_its_buffers(tmp_path: Path) -> None:
    layer = LAYERS["fill 31 with 77"]
    good = kc.case_of(reference_kernels()["fill"], layer)
    short = dataclasses.replace(good, out_bytes=30)
    for outcomes in (
        kernel_rig.run_on_twin([good, short]),
        kernel_rig.run_cases(load_board("qemu-cortex-m4"), [good, short], tmp_path),
    ):
        assert [o.faults for o in outcomes] == [(), ("wrote beside its buffers",)]


@pytest.mark.parametrize("board", EMULATED)
def test_the_rig_goes_on_behind_a_kernel_that_crashes(board: str, tmp_path: Path) -> None:
    good = kc.case_of(reference_kernels()["fill"], LAYERS["fill 31 with 77"])
    wild, unknown = (dataclasses.replace(good, kernel=dataclasses.replace(good.kernel, id=k)) for k in (3, 0x7FFF))
    outcomes = kernel_rig.run_cases(load_board(board), [good, wild, unknown, good], tmp_path)
    assert [o.faults for o in outcomes] == [(), ("crashed",), ("is not linked",), ()]
    assert outcomes[0].output == outcomes[3].output == bytes([77]) * 31


def test_every_architecture_has_a_core_to_run_on() -> None:
    assert set(list_architectures()) <= set(BOARDS)
    assert {arch for arch in list_architectures() if BOARDS[arch][0] not in list_boards()} == set()


NUMBERS = st.builds(
    kc.Numbers,
    spread=st.sampled_from(sorted(kc.SPREADS)),
    zps=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    relu=st.booleans(),
    data=st.sampled_from(["any", "edges", "high", "low"]),
    weights=st.sampled_from(["any", "any", "edges", "high", "halves"]),
)


@st.composite
def convolutions(draw: st.DrawFn, depthwise: bool) -> kc.Layer:
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (1, 1), (1, 1), (5, 5), (1, 3), (3, 1), (10, 4), (2, 2)]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (3, 3)]))
    image = draw(st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16, 24])))
    out_c = image[2] * draw(st.sampled_from([1, 1, 2])) if depthwise else draw(st.integers(1, 24))
    seed = draw(st.integers(0, 2**16))
    more: dict[str, Any] = {"n": draw(NUMBERS), "note": str(seed)}
    pads = [kc.same_pad(image[i], kernel[i], stride[i], 1) for i in range(2)]
    if draw(st.booleans()) and all(image[i] + sum(pads[i]) > kernel[i] for i in range(2)):
        more["pad"] = tuple((max(0, a - 1), b + 1) for a, b in pads)
    return kc.conv(image, out_c, kernel, stride, depthwise=depthwise, **more)


def check_random(layer: kc.Layer) -> None:
    reference = reference_kernels()[layer.call.op]
    want = kernel_rig.run_on_twin([kc.case_of(reference, layer)])[0].output
    for kernel in KERNELS:
        cases = kc.cases_of(kernel, layer)
        for case, outcome in zip(cases, kernel_rig.run_on_twin(cases), strict=True):
            assert not outcome.faults and outcome.output == want, (describe(layer, case), outcome.faults)


@settings(max_examples=60)
@given(layer=convolutions(depthwise=False))
def test_any_convolution_equals_the_reference(layer: kc.Layer) -> None:
    check_random(layer)


@settings(max_examples=60)
@given(layer=convolutions(depthwise=True))
def test_any_depthwise_convolution_equals_the_reference(layer: kc.Layer) -> None:
    check_random(layer)


@settings(max_examples=60)
@given(in_c=st.integers(1, 80), out_c=st.integers(1, 20), rows=st.sampled_from([1, 1, 2, 5]), n=NUMBERS)
def test_any_fully_connected_layer_equals_the_reference(in_c: int, out_c: int, rows: int, n: kc.Numbers) -> None:
    check_random(kc.fc(in_c, out_c, rows, n))


@settings(max_examples=60)
@given(
    op=st.sampled_from(["add", "mul"]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 20)),
    scales=st.tuples(*[st.floats(1e-3, 1.0)] * 3),
    zps=st.tuples(*[st.integers(-128, 127)] * 3),
    negate=st.booleans(),
    data=st.sampled_from(["any", "edges"]),
)
def test_any_addition_and_product_equals_the_reference(
    op: str, shape: kc.Shape, scales: Any, zps: Any, negate: bool, data: str
) -> None:
    check_random(kc.binary(op, shape, scales=scales, zps=zps, negate=negate and op == "add", data=data))
