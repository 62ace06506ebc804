"""Commands on the host alone: inspect and pack."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhn_kit.commands import console, options
from dhn_kit.commands.inputs import (
    Quantized,
    hook_kinds,
    is_pack,
    load_model,
    load_quantized,
    load_small,
    load_target,
    model_and_calib,
    packed_for,
    policy_of,
    with_bits,
    with_narrow,
    writable_file,
)
from dhn_kit.errors import DhnError
from dhn_kit.hooks import KEEP_BYTES, PACKED_KINDS

if TYPE_CHECKING:
    from dhn_kit import boards, inspection
    from dhn_kit import pack as packing
    from dhn_kit.quantize import Agreement


def inspect(
    network: Annotated[
        Path | None,
        typer.Argument(metavar="PACK_OR_MODEL", help="A pack, or a network as .onnx or .tflite; or dhn-kit.toml's."),
    ] = None,
    calib: options.Calib = None,
    method: options.Method = None,
    board: options.Board = None,
    flash_budget: options.FlashBudget = None,
    bits: options.Bits = "8",
    ram_first: options.RamFirst = False,
    goal: options.Goal = "cycles",
    kernel: options.Kernels = None,
    json: options.Json = False,
) -> None:
    """Show what is in a network or a pack.

    Operators, work, parameters; with calibration data (or from an int8 network) also how far int8 is from float per
    layer, which kernel each operator gets and why, where hooks may act, and the memory plan beside its lower bound.

    \b
    Examples:
      dhn-kit inspect model.onnx
      dhn-kit inspect model.onnx --calib calib.npz
      dhn-kit inspect model.tflite --json
      dhn-kit inspect model.dhn
    """
    from dhn_kit import inspection
    from dhn_kit.pack import load_pack

    target = load_target(board)
    path, calib = model_and_calib(network, calib)
    agreed = None
    if is_pack(path):
        summary = inspection.summarize_pack(load_pack(path))
    elif calib is None and not (graph := load_model(path)).quantized:
        summary = inspection.summarize(graph)
    else:
        quantized = load_quantized(path, calib, method)
        policy, facts = with_bits(quantized, target, policy_of(target, flash_budget, goal, kernel, ram_first), bits)
        packed = packed_for(quantized.graph, target, policy)
        packed.extra["precision"] = facts
        sqnr, agreed = _quality(quantized, packed)
        summary = inspection.summarize(quantized.graph, packed, sqnr)
    if json:
        console.emit_json({"summary": summary, "agreement": agreed})
        return
    _show(summary, agreed)


def _quality(quantized: Quantized, packed: packing.Pack) -> tuple[dict[str, float], Agreement | None]:
    """SQNR by node, and how often int8 (on the twin) and float agree, on the data that it was calibrated with."""
    from dhn_kit.quantize import agreement, sqnr_table
    from dhn_kit.twin import Twin

    real, x = quantized.float_graph, quantized.x
    if real is None or x is None:
        return {}, None
    with console.busy("comparing int8 with float"):
        table = sqnr_table(real, quantized.graph, x)
        answers = Twin(packed).run(quantized.graph.quantize_input(x)).output
        agreed = agreement(real, answers, x, quantized.y)
    return {row.node: row.db for row in table}, agreed


def _show(summary: inspection.Summary, agreed: Agreement | None) -> None:
    kind = "int8" if summary.quantized else "float (give --calib for int8, hook points and memory)"
    parameters = f", {summary.parameters:,} parameters" if summary.parameters else ""
    console.line(f"{summary.name}: {kind}, {summary.macs:,} MACs{parameters}")
    for word, ports in (("input", summary.inputs), ("output", summary.outputs)):
        for port in ports:
            quant = f", scale {port.scale:.6g}, zero point {port.zero_point}" if port.scale is not None else ""
            console.line(f"{word} {port.name}: {port.dtype} {_shape(port.shape)}{quant}")
    if agreed is not None:
        console.line(
            f"int8 answers as float does for {agreed.same_top1:.2%} of {agreed.n:,} samples{_accuracies(agreed)}"
        )
    console.line("")
    rows = ((_short(n.name), n.op, _shape(n.shape), n.macs, n.parameters, n.sqnr_db) for n in summary.nodes)
    console.table("Operators", ("name", "op", "output", ">MACs", ">parameters", ">SQNR dB"), rows)
    if summary.memory is not None:
        _show_kernels(summary.kernels, summary.counted_on)
        _show_precision(summary.precision)
        _show_packed(summary, summary.memory)


def _accuracies(agreed: Agreement) -> str:
    if agreed.accuracy_float is None or agreed.accuracy_int8 is None:
        return ""
    return f"; accuracy {agreed.accuracy_float:.2%} in float, {agreed.accuracy_int8:.2%} in int8"


def _show_packed(summary: inspection.Summary, memory: inspection.MemorySummary) -> None:
    points = (
        (
            p.index,
            _short(p.name),
            _shape(p.tap_shape),
            p.feature_bytes,
            f"{p.work_left:.0%}",
            "yes" if p.can_skip else "no",
        )
        for p in summary.points
    )
    console.table("Hook points", (">", "name", "tap", ">feature bytes", ">work left", "skip"), points)
    buffers = ((_short(name), *rest) for name, *rest in memory.buffers)
    console.table("Memory over time", ("buffer", ">offset", ">bytes", ">from step", ">to step"), buffers)
    verdict = "proven optimal" if memory.proven else "a smaller plan may exist"
    console.line(f"arena {memory.arena_bytes:,} bytes (lower bound {memory.lower_bound:,}, {verdict})")
    console.line(f"flash {memory.flash_bytes:,} bytes, pack {(summary.hash or '')[:12]}")


def _show_kernels(kernels: list[inspection.KernelSummary], counted_on: str | None) -> None:
    rows = (
        (_named(k), _bare(k.kernel), round(k.instructions), k.flash, k.scratch, _next_best(k.others)) for k in kernels
    )
    full = [k for k in kernels if k.variant == 0]
    console.table("Kernels", ("name", "kernel", ">predicted", ">flash", ">scratch", "next best"), rows)
    console.line(
        f"predicted {sum(k.instructions for k in full):,.0f} instructions, "
        f"estimated {sum(k.cycles for k in full):,.0f} cycles"
        + (f" (by the latency model of {counted_on})" if counted_on else "")
    )
    console.line("")


def _show_precision(facts: dict[str, Any] | None) -> None:
    if facts:
        rows = ((_short(name), w["bits"], w["flash"], w["why"]) for name, w in facts["widths"].items())
        console.table("Bits of weights", ("layer", ">bits", ">flash", "why"), rows)
        console.line(_precision_text(facts))
        console.line("")


def _named(kernel: inspection.KernelSummary) -> str:
    return f"  or {kernel.variant}: {_short(kernel.name, 14)}" if kernel.variant else _short(kernel.name, 20)


def _bare(kernel: str) -> str:
    """Name and architecture, without what all of them have."""
    return kernel.removeprefix("dhn_").replace("_s8__", " ", 1)


def _next_best(others: tuple[tuple[str, str], ...]) -> str:
    if not others:
        return ""
    name, why = others[0]
    return f"{_bare(name).split()[0]}: {why}"[:36]


def _short(name: str, width: int = 48) -> str:
    """Converters join the names of all that they fused; the first says enough. JSON has the whole."""
    first = name.split(";")[0]
    return first if len(first) <= width else f"...{first[3 - width :]}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def pack(
    model: options.Model = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.DHN", help="File to write.")] = Path(
        "model.dhn"
    ),
    calib: options.Calib = None,
    method: options.Method = None,
    board: options.Board = None,
    flash_budget: options.FlashBudget = None,
    bits: options.Bits = "8",
    ram_first: options.RamFirst = False,
    goal: options.Goal = "cycles",
    kernel: options.Kernels = None,
    patch: options.Patch = None,
    hooks: options.HookKinds = "",
    keep: options.Keep = KEEP_BYTES,
    small: options.Small = None,
    json: options.Json = False,
) -> None:
    """Quantise a network and pack it as a program for a board.

    A pack is made for the kernels of its board's core. It is the same with and without hooks; hooks are attached later,
    by their own bundle. Only some kinds need something in it: --hooks names them.

    \b
    Examples:
      dhn-kit pack model.onnx --calib calib.npz -o model.dhn
      dhn-kit pack model.onnx --calib calib.npz --method mse -o model.dhn
      dhn-kit pack model.tflite --board posix -o model.dhn
      dhn-kit pack model.tflite --flash-budget 120000 -o small.dhn
      dhn-kit pack model.onnx --calib calib.npz --bits auto --flash-budget 40000 -o smaller.dhn
      dhn-kit pack model.tflite --patch 4 -o thrifty.dhn
      dhn-kit pack model.onnx --calib calib.npz --hooks input,reuse --keep 512 -o gated.dhn
      dhn-kit pack big.onnx --small small.onnx --calib calib.npz -o both.dhn
    """
    from dhn_kit.inspection import multiplies

    target = load_target(board)
    writable_file(output)
    kinds = packed_kinds(hooks, small is not None, bits)
    quantized = load_quantized(*model_and_calib(model, calib), method)
    policy, facts = with_bits(quantized, target, policy_of(target, flash_budget, goal, kernel, ram_first), bits)
    if "zero" in kinds:
        policy = dataclasses.replace(policy, nonzero=_nonzero(quantized))
    second = None if small is None else load_small(small, quantized, method)
    narrow = None
    if "bits" in kinds:
        policy, narrow = with_narrow(quantized, target, policy)
    with console.busy("packing"):
        packed = packed_for(quantized.graph, target, policy, patch, kinds, keep, narrow, second)
        packed.extra["precision"] = facts
    check_fit(packed, target)
    try:
        packed.save(output)
    except OSError as error:
        raise DhnError(f"cannot write {output}: {error.strerror}; choose another place") from error
    result = {
        "pack": str(output),
        "hash": packed.hash,
        "flash_bytes": len(packed.data),
        "arena_bytes": packed.arena_bytes,
        "arena_lower_bound": packed.arena_lower_bound,
        "instructions": round(sum(op.instructions for op in packed.full_run)),
        "cycles": round(sum(op.cycles for op in packed.full_run)),
        "macs": sum(multiplies(op) for op in packed.full_run),
        "hook_points": len(packed.points),
        "patch": packed.extra.get("patch"),
        "precision": facts,
    }
    if json:
        console.emit_json(result)
        return
    console.line(
        f"{output}: {result['flash_bytes']:,} bytes of flash, {packed.arena_bytes:,} bytes of arena "
        f"(lower bound {packed.arena_lower_bound:,}), {result['macs']:,} MACs, {len(packed.points)} hook points"
    )
    if result["patch"]:
        console.line(_patch_text(packed))
    if facts:
        console.line(_precision_text(facts))


def packed_kinds(text: str, two: bool, bits: str) -> list[str]:
    """Kinds of hooks that need something in the pack. DhnError where they do not go together with other options."""
    kinds: list[str] = [k for k in hook_kinds(text) if k in PACKED_KINDS]
    if "select" in kinds and not two:
        raise DhnError("hooks of kind 'select' choose between two networks; name the second one with --small")
    if "bits" in kinds and bits != "8":
        raise DhnError(f"--bits {bits} narrows layers for good, --hooks bits by choice; leave one of them out")
    return kinds if not two or "select" in kinds else [*kinds, "select"]


def _precision_text(facts: dict[str, Any]) -> str:
    widths = Counter(w["bits"] for w in facts["widths"].values())
    layers = ", ".join(f"{count} with {bits} bits" for bits, count in sorted(widths.items()))
    return f"layers: {layers}; answers as with 8 bits for {facts['agreement']:.2%} of {facts['inputs']} inputs"


def _nonzero(quantized: Quantized) -> dict[str, dict[str, int]]:
    """How often inputs of fully connected layers are not zero, on the calibration data."""
    from dhn_kit.sparsity import nonzero_inputs

    if quantized.x is None:
        raise DhnError("--hooks zero has to see how often inputs are zero: give data with --calib data.npz (array 'x')")
    return nonzero_inputs(quantized.graph, quantized.graph.quantize_input(quantized.x))


def _patch_text(packed: packing.Pack) -> str:
    facts = packed.extra["patch"]
    more = facts["macs_after"] - facts["macs_before"]
    return (
        f"the first {facts['ops']} operators run in {facts['bands']} bands of rows: arena {packed.arena_bytes:,} bytes "
        f"instead of {facts['arena_before']:,}, {more:,} MACs more ({more / facts['macs_before']:.1%}); "
        f"hook points within them are left out"
    )


def check_fit(packed: packing.Pack, board: boards.Board) -> None:
    """DhnError if the board's memories cannot hold the pack and its arena; code and stack come on top."""
    for what, needed, there, remedy in (
        ("flash", len(packed.data), board.memory.flash_bytes, "use fewer weights"),
        ("RAM", packed.arena_bytes, board.memory.ram_bytes, "try --ram-first or --patch, use smaller feature maps"),
    ):
        if needed > there:
            raise DhnError(
                f"{packed.name} needs {needed:,} bytes of {what}, {board.name} has {there:,}: "
                f"{needed - there:,} too many; {remedy}, or a larger board"
            )
