"""Commands around hooks: collect, train, push and loop."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhn_kit.commands import options
from dhn_kit.commands.pending import not_here_yet

Risk = Annotated[float, typer.Option("--risk", min=0.0, max=1.0, help="Largest share of changed answers to allow.")]
Delta = Annotated[float, typer.Option("--delta", min=0.0, max=1.0, help="Chance that the certificate is wrong.")]
Actions = Annotated[str, typer.Option("--actions", help="Kinds of hooks to train, separated by commas.")]
Playback = Annotated[
    Path | None,
    typer.Option("--input", "-i", metavar="X.NPZ", help="Inputs to play to the board; without it, its own input."),
]
Count = Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after this many samples.")]
Policy = Annotated[str, typer.Option("--policy", help="What the board logs: every, uncertain or reservoir.")]
FullShare = Annotated[
    float,
    typer.Option("--full-share", min=0.0, max=1.0, help="Share of inputs that run in full whatever the hooks say."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


def collect(
    pack: options.PackFile,
    store: options.Store,
    inputs: Playback = None,
    count: Count = None,
    policy: Policy = "every",
    full_share: FullShare = 0.1,
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
    """
    not_here_yet("collect")


def train(
    pack: options.PackFile,
    store: options.Store,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="HOOKS.DHN", help="Bundle to write.")] = Path(
        "hooks.dhn"
    ),
    risk: Risk = 0.01,
    delta: Delta = 0.05,
    actions: Actions = "exit,skip",
    seed: Seed = 0,
    json: options.Json = False,
) -> None:
    """Train hooks from samples and certify their thresholds.

    The main network stays as it is. A hook that costs more than it saves is left out, and the report says so.

    \b
    Examples:
      dhn-kit train model.dhn samples.db -o hooks.dhn
      dhn-kit train model.dhn samples.db --risk 0.005 --delta 0.01 --actions exit
    """
    not_here_yet("train")


def push(
    hooks: Annotated[Path, typer.Argument(metavar="HOOKS.DHN", help="Bundle made by 'dhn-kit train'.")],
    pack: Annotated[Path, typer.Option("--pack", metavar="PACK", help="Main pack that the board runs.")] = Path(
        "model.dhn"
    ),
    board: options.Board = None,
    port: options.Port = None,
    uncertified: Annotated[
        bool, typer.Option("--uncertified", help="Also push a bundle without a certificate.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Write hooks to a board: trial, then confirm or revert.

    \b
    Examples:
      dhn-kit push hooks.dhn --pack model.dhn
      dhn-kit push hooks.dhn --pack model.dhn --board esp32 --port /dev/ttyUSB0
    """
    not_here_yet("push")


def loop(
    pack: options.PackFile,
    store: options.Store,
    inputs: Playback = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of collect, train and push.")] = 1,
    risk: Risk = 0.01,
    delta: Delta = 0.05,
    actions: Actions = "exit,skip",
    full_share: FullShare = 0.1,
    seed: Seed = 0,
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
    """
    not_here_yet("loop")
