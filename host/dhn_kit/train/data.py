"""What hooks learn from: the features and answers of inputs that the full network has seen."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dhn_kit import risk
from dhn_kit.errors import DhnError
from dhn_kit.hooks import HookPoint
from dhn_kit.pack import Pack
from dhn_kit.perception import DEFAULTS
from dhn_kit.samples import Reason, Sample
from dhn_kit.store import UNTAGGED
from dhn_kit.twin import Twin

Int8 = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: Set in names that are made of a sample's content; tags of played inputs do not have it.
CONTENT = 0x80000000
#: Reasons that give every input a known chance, so that a sample kept for one of them is a fair draw, once weighted.
UNBIASED = Reason.REQUESTED | Reason.FULL_RUN | Reason.EVERY_NTH | Reason.RESERVOIR | Reason.BALANCED
#: Those of them that a board draws by itself, among all inputs.
LOTS = UNBIASED & ~Reason.REQUESTED
#: Reasons that look for something: what they keep beside a fair draw teaches, but proves nothing.
SOUGHT = Reason.UNCERTAIN | Reason.DRIFT
#: Largest weight of a sample in training, as a multiple of the median.
MOST_WEIGHT = 20.0
#: Strength of the random warps, as a share of the input's extent: about what a hand-held sensor varies by.
WARP = 0.12
SHIFT = 0.05


@dataclass
class Split:
    """N inputs as the full network saw them. ``features[p]`` (N, F) int8 per hook point, ``output`` (N, K) int8,
    ``input`` (N, H, W, C) int8 or None where nobody kept it, ``label`` (N,) or None, -1 where unknown.
    ``propensity`` (N,) is the probability with which each was kept, None where all had the same chance. ``env`` (N, 16)
    int8 are the channels of `perception` that hooks could read, None where nobody noted them. ``spacing``: 0 where
    inputs have nothing to do with one another; in a stream, how far apart two inputs must be to count as separate draws
    when a risk is certified."""

    features: list[Int8]
    output: Int8
    input: Int8 | None
    label: Ints | None
    tags: list[int]
    propensity: Floats | None = None
    env: Int8 | None = None
    spacing: int = 0

    def __len__(self) -> int:
        return len(self.output)

    def first(self, n: int) -> Split:
        """The first n samples (all, where there are fewer), in their order."""
        return self._cut(slice(n))

    @property
    def counted(self) -> Split:
        """The samples that count as separate draws: all of them, of a stream every ``spacing``-th."""
        return self._cut(self.draws) if self.spacing else self

    @property
    def draws(self) -> slice:
        """Which rows `counted` has."""
        return slice(None, None, max(1, self.spacing))

    def _cut(self, rows: slice) -> Split:
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        cut: dict[str, Any] = {name: v[rows] for name, v in arrays.items() if isinstance(v, np.ndarray)}
        return replace(self, **cut, features=[f[rows] for f in self.features], tags=self.tags[rows])

    @property
    def environment(self) -> npt.ArrayLike:
        """What to give to `Twin.run`: the channels, or those of a board that was just started."""
        return DEFAULTS if self.env is None else self.env

    @property
    def answer(self) -> Ints:
        """The full network's class of each input."""
        return np.asarray(np.argmax(self.output, axis=1), np.int64)

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        """(N,), mean 1: of how many inferences each sample speaks, 1 / propensity, so that what a sampler prefers does
        not count more. Weights end at MOST_WEIGHT times the median: beyond that a few samples would drown all
        others.

        Horvitz, Thompson 1952, "A generalization of sampling without replacement from a finite universe".
        """
        if self.propensity is None:
            return np.ones(len(self), np.float32)
        w = 1 / np.maximum(self.propensity, 1e-9)
        w = np.minimum(w, MOST_WEIGHT * np.median(w))
        return np.asarray(w / w.mean(), np.float32)

    @property
    def hash(self) -> str:
        """Names the split: SHA-256 over tags and inputs, or features where inputs were not kept."""
        return risk.split_hash(self.tags, *([self.input] if self.input is not None else self.features))


def split_from_inputs(
    pack: Pack,
    q: Int8,
    label: npt.NDArray[np.integer] | None = None,
    tags: Iterable[int] | None = None,
    spacing: int = 0,
) -> Split:
    """Runs canonical int8 inputs (N, H, W, C) through the twin without hooks. ``spacing`` as in `Split`."""
    result = Twin(pack).run(q, mode="detached", features=True)
    known = None if label is None else np.asarray(label, np.int64)
    named = list(tags) if tags is not None else list(range(len(q)))
    return Split(result.features, result.output, q, known, named, spacing=spacing)


def split_from_samples(
    samples: Sequence[Sample],
    points: Sequence[HookPoint],
    inputs: Mapping[int, Int8] | None = None,
    sought: bool = False,
    spacing: int = 0,
) -> Split:
    """Samples of full runs that were kept for a reason which does not look at the input.

    With ``sought``, for training, also those that the board looked for and that no hook stopped: they hold the full
    network's answer too. Fair draws of such inputs then step back, so that `Split.weight` counts each input once.

    ``inputs`` gives the canonical int8 input of a tag, where the host played it itself. A tag that was sampled
    several times counts once, so that no input weighs more than another; in a stream (``spacing`` as in `Split`) the
    same picture may come again. Raises DhnError when nothing is left.
    """
    drawn = {s.session for s in samples if s.reason & LOTS}
    usable = [s for s in samples if (_sought(s) if sought and _is_sought(s) else _fair(s, s.session in drawn))]
    usable = [s for s in usable if len(s.features) == len(points) and all(f is not None for f in s.features)]
    if not spacing:
        usable = list({(s.tag if s.tag != UNTAGGED else ~k): s for k, s in enumerate(usable)}.values())
    if not usable:
        raise DhnError(
            f"none of {len(samples)} samples is a full run with features of all {len(points)} hook points: "
            "collect with a share of full runs, or play inputs back with hooks detached"
        )
    features = [np.stack([_flat(s.features[p.index]) for s in usable]) for p in points]
    labels = np.array([-1 if s.label is None else s.label for s in usable], np.int64)
    return Split(
        features,
        np.stack([s.output.reshape(-1) for s in usable]),
        _inputs(usable, inputs or {}),
        labels if (labels >= 0).any() else None,
        [sample_name(s) for s in usable],
        np.array([s.propensity for s in usable], np.float64),
        np.array([s.env for s in usable], np.int8) if all(s.env for s in usable) else None,
        spacing,
    )


def _fair(sample: Sample, drawn: bool) -> bool:
    """Where every run is a full one, what the board sought is part of the same design as what it ``drawn`` by lot: such
    inputs are kept for certain, so that without those beyond the lots they would count too little."""
    reasons = UNBIASED | SOUGHT if drawn else UNBIASED
    return bool(sample.reason & reasons) and (sample.full_run or sample.bundle_version == 0)


def _is_sought(sample: Sample) -> bool:
    """The board keeps every such inference: a hook hesitated or a feature drifted, and no hook acted (in a full run:
    would have). That follows from the input alone, so that exactly one of two designs has to cover it."""
    return bool(sample.reason & SOUGHT) and not sample.reason & Reason.REQUESTED and 2 not in sample.decisions


def _sought(sample: Sample) -> bool:
    return not sample.full_run or sample.bundle_version == 0


def sample_name(sample: Sample) -> int:
    """The tag of a played input; for the board's own inputs, which have none, a number made of what was logged."""
    if sample.tag != UNTAGGED:
        return sample.tag
    logged = [sample.output, *(f for f in sample.features if f is not None)]
    return CONTENT | zlib.crc32(b"".join(a.tobytes() for a in logged))


def _flat(feature: Int8 | None) -> Int8:
    assert feature is not None
    return feature.reshape(-1)


def packed_tags(tags: Sequence[int]) -> str:
    """Tags as text that a bundle's host part can carry: base64 of little-endian u32."""
    return base64.b64encode(np.asarray(tags, "<u4").tobytes()).decode()


def unpacked_tags(text: str) -> list[int]:
    return [int(t) for t in np.frombuffer(base64.b64decode(text), "<u4")]


def _inputs(samples: Sequence[Sample], known: Mapping[int, Int8]) -> Int8 | None:
    found = [s.input if s.input is not None else known.get(s.tag) for s in samples]
    arrays = [f for f in found if f is not None]
    return np.stack(arrays) if len(arrays) == len(found) else None


def warped(q: Int8, copies: int, seed: int) -> Int8:
    """`copies` randomly warped versions of canonical inputs (N, H, W, C), stacked to (copies * N, H, W, C).

    Images are slightly rotated, scaled, sheared and shifted; sequences (H or W is 1) are shifted and stretched. Labels
    are not needed: the full network itself says what a warped input is.
    """
    rng = np.random.default_rng(seed)
    _, h, w, _ = q.shape
    size = np.array([h, w], np.float64)
    moves = (size > 1).astype(np.float64)
    images = []
    for x in np.concatenate([q] * copies) if copies else q[:0]:
        matrix = np.eye(2) + rng.uniform(-WARP, WARP, (2, 2)) * np.outer(moves, moves)
        offset = rng.uniform(-SHIFT, SHIFT, 2) * size * moves
        centre = (size - 1) / 2
        offset += centre - matrix @ centre
        images.append(_warp(x, matrix, offset))
    return np.stack(images) if images else q[:0]


def _warp(x: Int8, matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Int8:
    planes = [
        ndimage.affine_transform(x[:, :, c].astype(np.float32), matrix, offset, order=1, mode="nearest")
        for c in range(x.shape[2])
    ]
    return np.asarray(np.clip(np.rint(np.stack(planes, axis=2)), -128, 127), np.int8)
