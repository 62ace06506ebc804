"""Recomputes a bundle's certificates from the samples that they claim to come from."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dhn_kit import workflow
from dhn_kit.bundle import BundleFile
from dhn_kit.errors import DhnError
from dhn_kit.hooks import Certificate
from dhn_kit.pack import Pack
from dhn_kit.samples import Int8, Sample
from dhn_kit.train import certify
from dhn_kit.train.data import Split, sample_name, split_from_inputs, unpacked_tags
from dhn_kit.train.thresholds import Outcome
from dhn_kit.twin import Twin

Labels = npt.NDArray[np.integer]
#: Bounds are computed anew, so they agree to rounding only.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """A certificate as it stands in the bundle and as the samples give it."""

    operating_point: str
    claimed: Certificate
    found: Certificate

    @property
    def differences(self) -> list[str]:
        """What differs, such as "errors 3, not 2"; empty when the certificate is right."""
        return [
            f"{name} {now}, not {then}"
            for name in ("n", "errors", "bound", "method", "split_hash", "full_errors")
            if not _same(then := getattr(self.claimed, name), now := getattr(self.found, name))
        ] + (
            [f"bound {self.found.bound:.4%} above the promise"]
            if self.found.bound > self.claimed.epsilon + TOLERANCE
            else []
        )


def verify(pack: Pack, bundle: BundleFile, split: Split) -> list[Check]:
    """Runs every certified operating point over the calibration split (`stored_split`, `played_split`) on the twin.

    DhnError when the bundle has no certificate, or the samples lack what is needed: inputs, or labels for error risk.
    """
    if not bundle.certificates:
        raise DhnError("the bundle has no certificate to verify; train it with calibration samples")
    if split.input is None:
        raise DhnError("the samples carry no inputs: give those that were played with --input")
    outcomes = {k: _outcome(pack, bundle, split, k) for k in {c.operating_point for c in bundle.certificates}}
    return [
        Check(bundle.operating_points[c.operating_point], c, _again(c, outcomes[c.operating_point], split))
        for c in bundle.certificates
    ]


def stored_split(
    pack: Pack, bundle: BundleFile, samples: Sequence[Sample], inputs: Int8 | None = None, labels: Labels | None = None
) -> Split:
    """The calibration split out of a store's samples, in the order in which the bundle names them.

    ``inputs`` (N, H, W, C) are those that were played, where samples carry none, ``labels`` (N,) are theirs. DhnError
    says how many samples the store lacks.
    """
    tags = _claimed_tags(bundle)
    wanted = set(tags)
    named = [s for s in samples if sample_name(s) in wanted]
    if inputs is not None:
        place = {workflow.input_tag(x): i for i, x in enumerate(inputs)}
        named = [_joined(s, place.get(s.tag), inputs, labels) for s in named]
    _rows(tags, [sample_name(s) for s in named])
    split = workflow.split_of(pack, named, spacing=workflow.timeline_of(bundle.report).spacing)
    return _taken(split, _rows(tags, split.tags))


def _joined(sample: Sample, row: int | None, inputs: Int8, labels: Labels | None) -> Sample:
    """With the input and the label of the played input that it is a record of, where it has none itself."""
    if row is None:
        return sample
    label = int(labels[row]) if sample.label is None and labels is not None and labels[row] >= 0 else sample.label
    return replace(sample, input=inputs[row] if sample.input is None else sample.input, label=label)


def played_split(pack: Pack, bundle: BundleFile, inputs: Int8, labels: Labels | None) -> Split:
    """The calibration split out of inputs (N, H, W, C) alone; what the full network answers is computed anew."""
    tags = _claimed_tags(bundle)
    numbered = tags == list(range(len(tags)))
    names = list(range(len(inputs))) if numbered else [workflow.input_tag(x) for x in inputs]
    rows = _rows(tags, names)
    chosen = None if labels is None else np.asarray(labels)[rows]
    return split_from_inputs(pack, inputs[rows], chosen, tags, workflow.timeline_of(bundle.report).spacing)


def _claimed_tags(bundle: BundleFile) -> list[int]:
    text = bundle.report.get("calibration_tags")
    if not isinstance(text, str):
        raise DhnError("the bundle does not say which samples certified it; train it again")
    return unpacked_tags(text)


def _rows(tags: Sequence[int], names: Sequence[int]) -> list[int]:
    """Where each tag is among the names; a name that occurs twice is used in order."""
    places: dict[int, list[int]] = {}
    for row, name in reversed(list(enumerate(names))):
        places.setdefault(name, []).append(row)
    found = [places[t].pop() if places.get(t) else -1 for t in tags]
    missing = found.count(-1)
    if missing:
        raise DhnError(
            f"{missing} of the {len(tags)} samples that certified the bundle are not there: "
            "name the store or the inputs that it was trained from"
        )
    return found


def _taken(split: Split, rows: list[int]) -> Split:
    return Split(
        [f[rows] for f in split.features],
        split.output[rows],
        None if split.input is None else split.input[rows],
        None if split.label is None else split.label[rows],
        [split.tags[r] for r in rows],
        None if split.propensity is None else split.propensity[rows],
        None if split.env is None else split.env[rows],
        split.spacing,
    )


def _outcome(pack: Pack, bundle: BundleFile, split: Split, point: int) -> Outcome:
    assert split.input is not None
    # In order, by one thread: a hook may keep something from one input to the next.
    output = Twin(pack, bundle.data, threads=1).run(split.input, point=point, environment=split.environment).output
    answer, nothing = np.asarray(output.argmax(axis=1), np.int64), np.zeros(len(split))
    return Outcome(nothing, answer != split.answer, nothing.astype(np.int64), nothing.astype(np.int64), answer)


def _again(claimed: Certificate, outcome: Outcome, split: Split) -> Certificate:
    """The certificate that this outcome deserves, asked for as the claimed one was."""
    number, delta, candidates = claimed.operating_point, claimed.delta, claimed.candidates
    outcome, split = certify.counted(outcome, split), _as_hashed(split.counted, claimed.split_hash)
    if claimed.kind == "consistency":
        return certify.consistency_certificate(number, outcome, split, claimed.epsilon, delta, candidates)
    if split.label is None or not (split.label >= 0).any():
        raise DhnError("error risk needs the labels that the bundle was certified with: give --input with 'y'")
    # The promise was a target or the bound itself; what counts is that the bound found now keeps it.
    return replace(certify.error_certificate(number, outcome, split, delta, candidates), epsilon=claimed.epsilon)


def _as_hashed(split: Split, wanted: str) -> Split:
    """Without its inputs where the claimed hash is over features: the samples had no inputs when they certified."""
    bare = replace(split, input=None)
    return bare if bare.hash == wanted else split


def _same(a: object, b: object) -> bool:
    return abs(a - b) <= TOLERANCE if isinstance(a, float) and isinstance(b, float) else a == b
