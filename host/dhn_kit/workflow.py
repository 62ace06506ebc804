"""The loop's steps on a connected board: collect samples, train from a store, judge before a push."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from dhn_kit.board_client import BoardClient, SamplerPolicy
from dhn_kit.boards import Board
from dhn_kit.bundle import BundleFile, check_binding, load_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import KINDS, Bundle, Kind, promises
from dhn_kit.latency import load_latency
from dhn_kit.pack import Pack
from dhn_kit.perception import parse_policy
from dhn_kit.playback import Progress, Recorder, silent
from dhn_kit.samples import Sample
from dhn_kit.store import SampleStore
from dhn_kit.train import design, monitor
from dhn_kit.train.certify import Costs, predicted_costs
from dhn_kit.train.data import Split, sample_name, split_from_samples
from dhn_kit.train.heads import Head, Method, unpacked
from dhn_kit.train.options import Against
from dhn_kit.train.timeline import UNRELATED, Timeline, divide_stream, estimated_spacing, is_stream, timeline
from dhn_kit.train.trainer import Options, TrainResult, check, train
from dhn_kit.train.worst_case import worst_cases

Int8 = npt.NDArray[np.int8]
#: Half-width in score units of the band that "uncertain" samples from.
BAND = 12
#: Of every window of inferences the reservoir keeps this many.
RESERVOIR, WINDOW = 4, 32
#: Of all inferences, run in full whatever the hooks say.
FULL_SHARE = 0.1
#: Share of all inferences that "balanced" keeps.
BALANCE = 0.25


def input_tag(x: Int8) -> int:
    """A played input's name, from its bytes: the same input is one sample, however often and wherever it is played."""
    return zlib.crc32(np.ascontiguousarray(x, np.int8).tobytes()) & 0x7FFFFFFF


@dataclass(frozen=True)
class Collected:
    """``falls``: how often the board's drift monitor fell back to the full network meanwhile."""

    played: int
    stored: int
    lost: int
    falls: int


def sampler_policy(policy: str, full_share: float, budget: int = 0, with_input: bool = True) -> SamplerPolicy:
    """The board's policy for a name on the command line, within ``budget`` bytes per second (0: any number).

    DhnError for an unknown one.
    """
    rules = {
        "every": SamplerPolicy(every_nth=1),
        "uncertain": SamplerPolicy(band=BAND),
        "reservoir": SamplerPolicy(reservoir=RESERVOIR, window=WINDOW),
        "drift": SamplerPolicy(drift=True),
        "balanced": SamplerPolicy(balance=BALANCE),
    }
    if policy not in rules:
        raise DhnError(f"sampler policy '{policy}' is unknown; choose one of {', '.join(rules)}")
    return replace(rules[policy], full_share=full_share, budget=budget, with_input=with_input)


def fitted(client: BoardClient, policy: SamplerPolicy) -> SamplerPolicy:
    """With as large a reservoir as the board's sample memory holds, the window smaller by as much.

    DhnError where not even one sample can wait in it.
    """
    if not policy.reservoir:
        return policy
    client.sampler(replace(policy, reservoir=0, window=0))
    state = client.sampler_state()
    size = min(policy.reservoir, state.cells - 2)
    if size < 1:
        raise DhnError(
            f"the board's memory holds {state.cells} samples of {state.record_bytes} bytes and a reservoir needs 3: "
            "collect with --no-input, or build with more --sample-bytes"
        )
    return replace(policy, reservoir=size, window=max(1, policy.window * size // policy.reservoir))


def collect(
    client: BoardClient,
    board: Board,
    store: SampleStore,
    q: Int8 | None,
    labels: Sequence[int] | npt.NDArray[np.integer] | None = None,
    policy: SamplerPolicy | None = None,
    count: int | None = None,
    environment: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> Collected:
    """Samples into the store, from played inputs (N, H, W, C) or, with None, from the board's own input callback.

    Played under a policy that keeps every one, each input runs in full and is kept, so that all of them can train and
    certify. Other policies leave it to the board what it keeps and what it runs in full; they know the label of a
    played input, where there is one (none below zero). ``environment`` stands in for the board's sensors
    (`perception`).
    """
    hello = client.hello()
    client.surroundings(environment or {})
    falls = client.counters().falls
    session = store.session(board.name, hello.hash, hello.bundle_version)
    recorder = Recorder(client, store, session)
    policy = fitted(client, policy or sampler_policy("every", FULL_SHARE))
    client.sampler(policy)
    everything = policy.every_nth == 1 and not policy.budget
    try:
        if q is None:
            played = client.stream_sensor(count or 1)
        else:
            q = q[:count]
            tags = [input_tag(x) for x in q]
            known = [None] * len(q) if labels is None else [int(y) if y >= 0 else None for y in labels]
            label(store, q, known)
            for i in progress(range(len(q)), "collecting"):
                client.run(
                    q[i],
                    tags[i],
                    "shadow" if everything else "gated",
                    want_output=False,
                    want_sample=everything,
                    policies=not everything,
                    label=known[i],
                )
            played = len(q)
    finally:
        recorder.finish()
    return Collected(played, recorder.kept, recorder.lost, client.counters().falls - falls)


def label(store: SampleStore, q: Int8, labels: Sequence[int | None]) -> int:
    """Tells the store the classes of played inputs (N, H, W, C), None where unknown. Returns how many are known."""
    known = {input_tag(x): y for x, y in zip(q, labels, strict=False) if y is not None}
    store.set_labels(known)
    return len(known)


def divide(samples: Sequence[Sample], share: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """(training, calibration): by a hash of the sample's name, so that an input stays on one side for good."""
    limit = int(share * 2**32)

    def calibrates(sample: Sample) -> bool:
        return zlib.crc32(f"{seed}:{sample_name(sample)}".encode()) < limit

    return [s for s in samples if not calibrates(s)], [s for s in samples if calibrates(s)]


def splits(
    pack: Pack, samples: Sequence[Sample], share: float = 0.6, line: Timeline = UNRELATED
) -> tuple[Split, Split]:
    """Training and calibration splits of a store's samples, of a stream in blocks."""
    training, calibration = divide_stream(samples, line, share) if line.spacing else divide(samples, share)
    return split_of(pack, training, sought=True, spacing=line.spacing), split_of(
        pack, calibration, spacing=line.spacing
    )


def split_of(pack: Pack, samples: Sequence[Sample], sought: bool = False, spacing: int = 0) -> Split:
    """Samples as a split, for training with those that the board ``sought``; ``spacing`` as in `Split`. Their inputs,
    which travel as plain bytes, get the network's shape again."""
    split = split_from_samples(samples, pack.points, sought=sought, spacing=spacing)
    if split.input is not None:
        split.input = split.input.reshape(len(split), *pack.tensors[pack.inputs[0].tensor].shape)
    return split


@dataclass(frozen=True)
class Search:
    """A search of exits' places and shapes. ``budget``: mean cost in full runs."""

    budget: float
    minutes: float


def train_from_store(
    pack: Pack,
    board: Board,
    store: SampleStore,
    options: Options,
    calibration_share: float = 0.6,
    allow_gaps: bool = False,
    policy: str = "",
    wanted: Search | None = None,
    spacing: int | None = None,
    earlier: Timeline | None = None,
) -> TrainResult:
    """Hooks from everything the store has of this pack, costs by the board's model; ``wanted``: exits by a search.

    The bundle gets what the board needs in use: ``policy`` over its environment (`perception.parse_policy`), and the
    ranges that its drift monitor compares with. ``spacing`` as in `Split`, None: estimated where samples may be a
    stream; ``earlier``: how the bundle to go on from took them. DhnError where samples were lost, unless `allow_gaps`:
    what is lost may not be lost by chance.
    """
    samples = store.load(pack.hash)
    lost = store.lost(pack.hash)
    if lost and not allow_gaps:
        raise DhnError(
            f"{store.path}: {lost} of {lost + len(samples)} samples never arrived, and not by lot, so the rest may not "
            "certify a risk: collect into a new store, or accept it with --allow-gaps"
        )
    if spacing is None and earlier is None and is_stream(samples, options.kinds):
        spacing = estimated_spacing(samples)
    line = timeline(samples, (earlier or UNRELATED).spacing if spacing is None else spacing, earlier)
    hook, calibration = splits(pack, samples, calibration_share, line)
    options = replace(options, slot_bytes=board.hook_flash.slot_bytes)
    costs = predicted_costs(pack, load_latency(board.latency_board))
    result = _search_and_train(pack, hook, calibration, costs, options, wanted)
    result.bundle.report["timeline"] = asdict(line)
    equip(pack, result.bundle, calibration, costs, policy)
    return result


def timeline_of(report: Mapping[str, Any]) -> Timeline:
    """How the samples behind a bundle were taken, by the facts that travel with it."""
    return Timeline(**report.get("timeline", {}))


def _search_and_train(
    pack: Pack, hook: Split, calibration: Split, costs: Costs, options: Options, wanted: Search | None
) -> TrainResult:
    if wanted is None:
        return train(pack, hook, calibration, costs, options)
    check(pack, hook, calibration, options)
    if "exit" not in options.kinds:
        raise DhnError("--search looks for exits: name that kind in --hooks")
    designs = design.find_designs(pack, hook, costs, options, wanted.minutes)
    chosen = design.pick(designs, wanted.budget)
    result = train(pack, hook, calibration, costs, replace(options, exits=chosen.exits))
    result.bundle.report["designs"] = [asdict(d) | {"chosen": d is chosen} for d in designs]
    return result


def equip(pack: Pack, bundle: Bundle, calibration: Split, costs: Costs, policy: str = "") -> None:
    """Adds what the board needs of a certified bundle in use: policy rows, and the drift monitor's ranges."""
    if not bundle.operating_points:
        return
    bundle.policies = parse_policy(policy, bundle.operating_points, worst_cases(pack, bundle, costs))
    bundle.ranges = monitor.ranges(pack, bundle, calibration)


#: What `--method` takes.
METHODS: dict[str, tuple[Method, ...]] = {
    "bp": ("bp",),
    "ff": ("ff",),
    "both": ("bp", "ff"),
    "back-propagation": ("bp",),
    "forward-forward": ("ff",),
}


def methods_for(name: str) -> tuple[Method, ...]:
    """How heads learn, by a name on the command line. DhnError for an unknown one."""
    if name not in METHODS:
        raise DhnError(f"training method '{name}' is unknown; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def against_for(name: str) -> Against:
    """What answers are judged by, by a name on the command line. DhnError for an unknown one."""
    for known in get_args(Against):
        if name == known:
            return cast(Against, known)
    raise DhnError(f"answers cannot be judged against '{name}'; choose one of {', '.join(get_args(Against))}")


def heads_of(pack: Pack, path: Path) -> dict[str, Head]:
    """The heads of an earlier bundle of the same pack, to go on from. DhnError where it has none."""
    earlier = load_bundle(path)
    check_binding(pack, earlier, path)
    kept = earlier.report.get("heads")
    if not kept:
        raise DhnError(f"{path} holds no heads to go on from; train without --from")
    return {name: unpacked(layers) for name, layers in kept.items()}


def kinds_for(names: str) -> tuple[Kind, ...]:
    """Kinds of hooks by their names, separated by commas. DhnError for an unknown one."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in KINDS]
    if unknown or not wanted:
        raise DhnError(f"hook kind '{', '.join(unknown)}' is unknown; choose from {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in wanted)


def options_for(risk: float, delta: float, kinds: str, seed: int, version: int) -> Options:
    """Trainer options for one risk target and the usual ladder below and above it; hooks are judged at half of it."""
    return Options(
        risks=tuple(sorted({risk / 4, risk / 2, risk, min(0.5, 2 * risk)})),
        delta=delta,
        prune_at=risk / 2,
        kinds=kinds_for(kinds),
        seed=seed,
        version=version,
    )


def own_error(bundle: BundleFile) -> float:
    """How often the full network was wrong on the training samples; 0 where answers are judged by its own."""
    return float(bundle.report.get("full_error", 0.0))


def check_certified(bundle: BundleFile, risk: float | None = None) -> None:
    """DhnError unless every operating point has a certificate, and the first one a risk of at most `risk`, beyond the
    full network's own errors where labels judge."""
    certified = promises(bundle.certificates)
    missing = [name for k, name in enumerate(bundle.operating_points) if k not in certified]
    if missing or not bundle.operating_points:
        raise DhnError(
            f"operating point '{', '.join(missing) or 'none'}' has no certificate; "
            "train with more calibration samples, or push with --uncertified"
        )
    if risk is not None and min(c.epsilon for c in certified.values()) > risk + own_error(bundle) + 1e-12:
        raise DhnError(
            f"no operating point is certified at a risk of {risk:.3g}; collect more samples or allow more risk"
        )


def best_point(bundle: BundleFile, risk: float) -> int:
    """The thriftiest operating point (they are ordered from cautious to thrifty) certified at `risk` or less, beyond
    the full network's own errors where labels judge."""
    allowed = risk + own_error(bundle) + 1e-12
    fitting = [k for k, c in promises(bundle.certificates).items() if c.epsilon <= allowed]
    return max(fitting, default=0)


def next_version(client: BoardClient) -> int:
    """One more than any bundle that either slot holds."""
    return 1 + max((s.version for s in client.slots().slots if 0 < s.version < 2**32 - 1), default=0)
