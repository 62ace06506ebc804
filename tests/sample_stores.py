"""Fills sample stores with what a board would log, computed by the twin, for tests that need no board."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dhn_kit import workflow
from dhn_kit.pack import Pack
from dhn_kit.samples import Int8, Reason, Sample
from dhn_kit.store import SampleStore
from dhn_kit.train import split_from_inputs


def samples_of(pack: Pack, q: Int8, propensity: Sequence[float] | None = None) -> list[Sample]:
    """One full run per canonical input (N, H, W, C), numbered from 0, tagged as played inputs are."""
    split = split_from_inputs(pack, q)
    return [
        Sample(
            number=i,
            tag=workflow.input_tag(q[i]),
            reason=Reason.REQUESTED,
            propensity=1.0 if propensity is None else propensity[i],
            full_run=True,
            operating_point=0,
            bundle_version=0,
            exit_hook=-1,
            output=split.output[i],
            features=[f[i] for f in split.features],
            input=q[i].reshape(-1),
        )
        for i in range(len(q))
    ]


def fill(path: Path, pack: Pack, q: Int8, labels: Sequence[int] | None = None) -> None:
    """A store with one session of these inputs, and their labels."""
    samples = samples_of(pack, q)
    with SampleStore(path) as store:
        store.add(store.session("posix", pack.hash), samples)
        if labels is not None:
            store.set_labels({s.tag: int(y) for s, y in zip(samples, labels, strict=True)})


def varied_inputs(pack: Pack, count: int, seed: int = 0) -> Int8:
    """Random inputs of random brightness, so that even a random network answers with more than one class."""
    rng = np.random.default_rng(seed)
    shape = pack.tensors[pack.inputs[0].tensor].shape
    centre = rng.integers(-100, 100, (count, 1, 1, shape[2]))
    return np.asarray(np.clip(centre + rng.normal(0, 30, (count, *shape)), -128, 127), np.int8)
