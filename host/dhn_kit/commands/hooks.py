"""Commands around hooks on a board: collect, push and loop."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhn_kit.commands import console, direct, options
from dhn_kit.commands.inputs import load_hooks, load_target, port_of, writable_file
from dhn_kit.commands.training import (
    Against,
    AllowGaps,
    AllowUnseen,
    Cascade,
    Delta,
    Kinds,
    Method,
    PointPolicy,
    Risk,
    Seed,
    Side,
    Spacing,
    Survivors,
    options_of,
    played,
    train_result,
    trained,
)
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from dhn_kit.pack import Pack
    from dhn_kit.train.trainer import TrainResult

Playback = Annotated[
    Path | None,
    typer.Option("--input", "-i", metavar="X.NPZ", help="Inputs to play to the board; without it, its own input."),
]
Count = Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after this many samples.")]
Policy = Annotated[
    str, typer.Option("--policy", help="What the board logs: every, uncertain, reservoir, drift or balanced.")
]
Budget = Annotated[
    int,
    typer.Option("--budget", metavar="BYTES", min=0, max=2**30, help="Most bytes per second for it; 0: any number."),
]
WithInput = Annotated[
    bool, typer.Option("--with-input/--no-input", help="Log the raw input too, or the features and answers alone.")
]
FullShare = Annotated[
    float,
    typer.Option("--full-share", min=0.0, max=1.0, help="Share of inputs that run in full whatever the hooks say."),
]


def collect(
    pack: options.PackFile,
    store: options.Store,
    inputs: Playback = None,
    count: Count = None,
    policy: Policy = "every",
    full_share: FullShare = 0.1,
    budget: Budget = 0,
    with_input: WithInput = True,
    env: options.Environment = "",
    board: options.Board = None,
    port: options.Port = None,
    json: options.Json = False,
) -> None:
    """Log samples from a board into a store.

    Stop it at any moment: what the board had acknowledged is in the store. Lost samples are counted.

    \b
    Examples:
      dhn-kit collect model.dhn samples.db --input x.npz
      dhn-kit collect model.dhn samples.db --board esp32 --port /dev/ttyUSB0 --count 2000
      dhn-kit collect model.dhn samples.db --input x.npz --policy uncertain --full-share 0.2
      dhn-kit collect model.dhn samples.db --count 10000 --policy balanced --budget 2000 --no-input
    """
    from dhn_kit import workflow
    from dhn_kit.pack import load_pack
    from dhn_kit.perception import parse_environment
    from dhn_kit.playback import board_folder, powered
    from dhn_kit.store import SampleStore

    target, packed = load_target(board), load_pack(pack)
    surroundings = parse_environment(env)
    rules = workflow.sampler_policy(policy, full_share, budget, with_input)
    writable_file(store)
    q, y = played(packed, inputs)
    with (
        powered(packed, target, board_folder(packed, target), port_of(target, port)) as (session, _),
        SampleStore(store) as samples,
    ):
        done = workflow.collect(session.client, target, samples, q, y, rules, count, surroundings, console.progress)
        total = sum(samples.counts(packed.hash).values())
    if json:
        console.emit_json({**vars(done), "total": total, "store": str(store)})
        return
    console.line(
        f"{store}: {done.stored:,} new samples of {done.played:,} inferences, {done.lost:,} lost, {total:,} in all"
    )
    if done.falls:
        console.warn(f"the drift monitor fell back to the full network {done.falls} times; see 'dhn-kit status'")


def push(
    hooks: Annotated[Path, typer.Argument(metavar="HOOKS.DHN", help="Bundle made by 'dhn-kit train'.")],
    pack: Annotated[Path, typer.Option("--pack", metavar="PACK", help="Main pack that the board runs.")] = Path(
        "model.dhn"
    ),
    board: options.Board = None,
    port: options.Port = None,
    uncertified: options.Uncertified = False,
    json: options.Json = False,
) -> None:
    """Write hooks to a board: trial, then confirm or revert.

    \b
    Examples:
      dhn-kit push hooks.dhn --pack model.dhn
      dhn-kit push hooks.dhn --pack model.dhn --board esp32 --port /dev/ttyUSB0
    """
    from dhn_kit import workflow
    from dhn_kit.pack import load_pack

    target, packed = load_target(board), load_pack(pack)
    bundle = load_hooks(packed, hooks)
    assert bundle is not None
    if not uncertified:
        workflow.check_certified(bundle)
    direct.push_hooks(packed, target, bundle, port, json)


def loop(
    pack: options.PackFile,
    store: options.Store,
    inputs: Playback = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of collect, train and push.")] = 1,
    risk: Risk = 0.01,
    delta: Delta = 0.05,
    kinds: Kinds = "exit,skip",
    method: Method = "bp",
    survivors: Survivors = 0.0,
    cascade: Cascade = False,
    point_policy: PointPolicy = "",
    against: Against = "network",
    side: Side = None,
    spacing: Spacing = None,
    count: Count = None,
    full_share: FullShare = 0.1,
    seed: Seed = 0,
    allow_gaps: AllowGaps = False,
    allow_unseen: AllowUnseen = False,
    board: options.Board = None,
    port: options.Port = None,
    json: options.Json = False,
) -> None:
    """Collect, train and push, again and again.

    What its certificate does not allow is not pushed.

    \b
    Examples:
      dhn-kit loop model.dhn samples.db --input x.npz
      dhn-kit loop model.dhn samples.db --input x.npz --rounds 3 --risk 0.005
      dhn-kit loop model.dhn samples.db --input x.npz --hooks exit,input --side small.onnx --method both
    """
    from dhn_kit import workflow
    from dhn_kit.pack import load_pack
    from dhn_kit.perception import read_policy
    from dhn_kit.playback import board_folder, powered
    from dhn_kit.store import SampleStore

    target, packed = load_target(board), load_pack(pack)
    rules = workflow.sampler_policy("every", full_share)
    read_policy(point_policy)
    chosen = options_of(packed, risk, delta, kinds, seed, 1, method, survivors, cascade, against, side, allow_unseen)
    writable_file(store)
    q, y = played(packed, inputs)
    turns = []
    with (
        powered(packed, target, board_folder(packed, target), port_of(target, port)) as (session, _),
        SampleStore(store) as samples,
    ):
        for turn in range(rounds):
            done = workflow.collect(session.client, target, samples, q, y, rules, count, progress=console.progress)
            numbered = replace(chosen, version=workflow.next_version(session.client))
            with console.busy("training"):
                result = workflow.train_from_store(
                    packed, target, samples, numbered, allow_gaps=allow_gaps, policy=point_policy, spacing=spacing
                )
            turns.append(
                {"turn": turn, "collected": vars(done), **_push_if_allowed(session.client, packed, result, risk)}
            )
            if not json:
                console.line(f"turn {turn + 1}: {done.stored:,} new samples; {turns[-1]['outcome']}")
    if json:
        console.emit_json({"turns": turns, "store": str(store)})


def _push_if_allowed(client: Any, packed: Pack, result: TrainResult, risk: float) -> dict[str, Any]:
    """Pushes what is certified at `risk`; says why not otherwise, and leaves the board as it is."""
    from dhn_kit import workflow
    from dhn_kit.playback import install

    summary = train_result(result)
    try:
        file = trained(packed, result)
        workflow.check_certified(file, risk)
    except DhnError as error:
        return {**summary, "pushed": False, "outcome": f"nothing pushed: {error}"}
    install(client, file.data)
    point = workflow.best_point(file, risk)
    client.set_point(point)
    outcome = f"bundle {file.version} confirmed, operating point '{file.operating_points[point]}'"
    return {**summary, "pushed": True, "version": file.version, "operating_point": point, "outcome": outcome}
