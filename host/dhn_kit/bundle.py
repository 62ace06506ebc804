"""Writes trained hooks as a bundle (.dhn) bound to one main pack, and reads what the host needs of it back."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhn_kit import records, trailer
from dhn_kit.errors import DhnError
from dhn_kit.hook_programs import Placed, Program, keep_layout, kept_by, place_hook, read_by
from dhn_kit.hooks import NEVER, Bundle, Certificate, HookSpec
from dhn_kit.pack import Pack, emit_program, finish
from dhn_kit.records import ConstPool

#: At one point: an answer that is there already, then exits, then what changes the computation, and skips, which leave.
ORDER = ("reuse", "exit", "blend", "select", "mask", "skip")


def hook_order(bundle: Bundle) -> list[HookSpec]:
    """The order in which the runtime numbers hooks: by point; at the same point what ends the run comes first."""
    return sorted(bundle.hooks, key=lambda h: (h.point, ORDER.index(h.action)))


def pack_bundle(main: Pack, bundle: Bundle) -> bytes:
    """The device's bytes of a hook bundle. DhnError names the hook that does not fit its point."""
    specs = hook_order(bundle)
    points = len(bundle.operating_points)
    for spec in specs:
        if len(spec.thresholds) != points:
            raise DhnError(f"hook '{spec.name}' has {len(spec.thresholds)} thresholds for {points} operating points")
    _check_kept(main, specs)
    placed = _place(main, specs)
    pool = ConstPool(records.HEADER.size)
    kernels: list[int] = []

    def code(program: Program | None) -> bytes:
        return emit_program(program.ops, program.offsets, kernels, 0, pool) if program is not None else b""

    programs = [tuple(code(p) for p in (item.decide, item.then, item.otherwise)) for item in placed]
    image = bytearray(bytes(records.HEADER.size) + pool.bytes())
    hooks = b""
    for item, parts in zip(placed, programs, strict=True):
        at = {}
        for name, part in zip(("program", "then", "otherwise"), parts, strict=True):
            at[name] = len(image) if part else 0
            image += part
        at["thresholds"] = len(image)
        image += b"".join(int(t).to_bytes(4, "little", signed=True) for t in item.spec.thresholds)
        hooks += _hook_record(item, at)
    header: dict[str, Any] = {"hooks": len(image)}
    image += hooks
    header["policies"] = len(image)
    image += b"".join(records.POLICY.pack(**vars(row)) for row in bundle.policies)
    header["ranges"] = len(image)
    image += b"".join(records.RANGE.pack(**vars(row)) for row in bundle.ranges)
    header["kernels"] = len(image)
    image += b"".join(k.to_bytes(2, "little") for k in kernels)
    return finish(
        image,
        kind=records.KIND_HOOKS,
        bound_to=bytes.fromhex(main.hash),
        arena_bytes=main.header["arena_bytes"],
        kernel_count=len(kernels),
        hook_count=len(specs),
        operating_points=points,
        bundle_version=bundle.version,
        policy_count=len(bundle.policies),
        range_count=len(bundle.ranges),
        **header,
    )


def _place(main: Pack, specs: Sequence[HookSpec]) -> list[Placed]:
    keep = keep_layout(main, specs)
    return [place_hook(main, spec, keep) for spec in specs]


def _hook_record(item: Placed, at: dict[str, int]) -> bytes:
    spec = item.spec
    chooses = spec.action in ("select", "mask")
    return records.HOOK.pack(
        point=spec.point,
        action=records.ACTIONS[spec.action],
        decide=records.DECIDE[spec.decide],
        score=item.score,
        score_count=item.score_count,
        answer=item.answer,
        answer_bytes=item.answer_bytes,
        group=spec.group if chooses else 0,
        variant=spec.variant if chooses else 0,
        flags=records.MASK_GROUPS if spec.mask_groups else 0,
        **at,
    )


def _check_kept(main: Pack, specs: Sequence[HookSpec]) -> None:
    """Whoever reads a kept tensor finds it written: by an earlier hook that is asked whenever it is, or by itself."""
    for number, spec in enumerate(specs):
        for name, tensor in read_by(spec).items():
            writers = [s for s in specs[: number + 1] if name in kept_by(s, main)]
            if not writers:
                raise DhnError(f"hook '{spec.name}' reads '{name}', which no hook before it keeps; attach that one too")
            kept = kept_by(writers[-1], main)[name]
            if (kept.size, kept.quant) != (tensor.size, tensor.quant):
                raise DhnError(
                    f"hook '{spec.name}' reads '{name}' as {tensor.shape} {tensor.quant}, "
                    f"'{writers[-1].name}' keeps {kept.shape} {kept.quant}; both must be the same"
                )
            pairs = zip(spec.thresholds, writers[-1].thresholds, strict=True)
            if any(mine != NEVER and theirs == NEVER for mine, theirs in pairs):
                raise DhnError(
                    f"hook '{spec.name}' reads what '{writers[-1].name}' keeps, which is off at an operating point; "
                    "silence that one instead (hooks.SILENT)"
                )


@dataclass
class BundleFile:
    """A packed bundle as the host keeps it: device bytes and what they mean."""

    data: bytes
    operating_points: list[str]
    certificates: list[Certificate]
    #: per hook in the runtime's order: name, point, action, thresholds, and as [kernel, MACs, outputs] the operators
    #: that decide, those that run when it acts and those that run when it does not; also kind, reads and keeps
    hooks: list[dict[str, Any]]
    report: dict[str, Any]

    @property
    def header(self) -> dict[str, Any]:
        return records.HEADER.unpack(self.data)

    @property
    def model_hash(self) -> str:
        return bytes(self.header["bound_to"]).hex()

    @property
    def version(self) -> int:
        return int(self.header["bundle_version"])


def bundle_file(main: Pack, bundle: Bundle) -> BundleFile:
    hooks = []
    for placed in _place(main, hook_order(bundle)):
        spec = placed.spec
        hooks.append(
            {
                "name": spec.name,
                "kind": spec.family,
                "point": spec.point,
                "action": spec.action,
                "thresholds": [int(t) for t in spec.thresholds],
                "group": spec.group,
                "variant": spec.variant,
                "reads": sorted(read_by(spec)),
                "keeps": sorted(kept_by(spec, main)),
                "decide": _work(placed.decide),
                "act": _work(placed.then),
                "otherwise": _work(placed.otherwise),
            }
        )
    return BundleFile(
        pack_bundle(main, bundle), list(bundle.operating_points), list(bundle.certificates), hooks, dict(bundle.report)
    )


def _work(program: Program | None) -> list[list[Any]]:
    return [[o.kernel.name, o.macs, o.outputs] for o in program.ops] if program is not None else []


def save_bundle(file: BundleFile, path: Path) -> None:
    """Device bytes plus a JSON trailer with names and certificates, written whole or not at all."""
    meta = {
        "operating_points": file.operating_points,
        "certificates": [dataclasses.asdict(c) for c in file.certificates],
        "hooks": file.hooks,
        "report": file.report,
    }
    trailer.save(path, file.data, meta)


def load_bundle(path: Path) -> BundleFile:
    """Reads a bundle file. DhnError when it is a main pack, cut off, corrupted or without its host part."""
    image, meta = trailer.load(path, "make a bundle with 'dhn-kit train'")
    if records.HEADER.unpack(image)["kind"] != records.KIND_HOOKS:
        raise DhnError(f"{path} is a main pack, not a hook bundle; make a bundle with 'dhn-kit train'")
    if meta is None:
        raise DhnError(f"{path} lacks its host part (certificates); use the file that 'dhn-kit train' wrote")
    certificates = [Certificate(**c) for c in meta["certificates"]]
    return BundleFile(image, meta["operating_points"], certificates, meta["hooks"], meta["report"])


def with_thresholds(data: bytes, thresholds: list[int]) -> bytes:
    """The same bundle with one threshold per hook at every operating point: for what-if runs on the twin."""
    image = bytearray(data)
    header = records.HEADER.unpack(data)
    for number, threshold in enumerate(thresholds):
        hook = records.HOOK.unpack(data, header["hooks"] + number * records.HOOK.size)
        for point in range(header["operating_points"]):
            at = hook["thresholds"] + 4 * point
            image[at : at + 4] = int(threshold).to_bytes(4, "little", signed=True)
    image[12:16] = zlib.crc32(image[records.CRC_FROM :]).to_bytes(4, "little")
    return bytes(image)


def check_binding(main: Pack, bundle: BundleFile, path: Path | str = "the bundle") -> None:
    if bundle.model_hash != main.hash:
        raise DhnError(
            f"{path} belongs to another model ({bundle.model_hash[:12]}, this one is {main.hash[:12]}); "
            "train hooks for this pack"
        )
