"""The command that shows what a running board says, line by line."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import itertools
import json as json_format
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhn_kit.commands import options
from dhn_kit.commands.device import canonical_xy
from dhn_kit.commands.inputs import load_target, port_of
from dhn_kit.commands.status import counters_line, hello_line, monitor_line
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from dhn_kit.board_client import BoardClient
    from dhn_kit.pack import Pack
    from dhn_kit.samples import Sample
    from dhn_kit.watch import Event, Feed

DECISIONS = ("not reached", "kept", "acted")


def monitor(
    pack: Annotated[
        Path | None, typer.Argument(metavar="PACK", help="Main pack, for an emulated board or for --input.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="X.NPZ", help="Inputs to play to the board; ends with them.")
    ] = None,
    sensor: Annotated[bool, typer.Option("--sensor", help="Have the board run on its own sensor.")] = False,
    policy: Annotated[
        str,
        typer.Option(
            "--policy", help="What the board samples meanwhile: every, uncertain, reservoir, drift or balanced."
        ),
    ] = "every",
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks at the counters.")] = 1.0,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after this many samples.")] = None,
    board: options.Board = None,
    port: options.Port = None,
    json: options.Json = False,
) -> None:
    """Show what a board sends, decoded, one line each, until Ctrl-C.

    Hello, samples with decisions and scores, counters and drift monitor when they change, and text that the board
    prints. With --sensor or --input the board runs and samples by --policy meanwhile, and has its own policy back
    afterwards; without, nothing is changed on it. With --json every line is an object.

    \b
    Examples:
      dhn-kit monitor --board esp32
      dhn-kit monitor --board esp32 --port /dev/ttyUSB0 --sensor --policy uncertain
      dhn-kit monitor model.dhn --input x.npz --json
    """
    from dhn_kit import watch, workflow
    from dhn_kit.pack import load_pack

    target = load_target(board)
    packed = load_pack(pack) if pack is not None else None
    if inputs is not None and packed is None:
        raise DhnError(f"{inputs} is read by the network's input layout; name the PACK that the board runs")
    q = canonical_xy(packed, inputs)[0] if packed is not None and inputs is not None else None
    rules = workflow.sampler_policy(policy, 0.0, with_input=False) if sensor or inputs else None
    place = port_of(target, port)
    with _ends_quietly(), _connected(packed, board, place) as client:
        feed = _feed(client, q, sensor)
        with watch.sampling(client, rules):
            for event in _until(watch.Watch(client, every).events(feed), count):
                _show(event, json)


@contextlib.contextmanager
def _ends_quietly() -> Iterator[None]:
    """Ctrl-C is how this command ends, and so is a reader that has seen enough ('| head')."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Python would try to write the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _connected(packed: Pack | None, board: str | None, port: str | None) -> Iterator[BoardClient]:
    from dhn_kit.board_session import open_board
    from dhn_kit.playback import board_folder, powered

    target = load_target(board)
    if port is not None:
        with open_board(target, None, Path(), port) as session:
            yield session.client
    elif packed is None:
        raise DhnError(f"{target.name} is emulated and started for this; name the PACK that it runs, or a --port")
    else:
        with powered(packed, target, board_folder(packed, target)) as (session, _):
            yield session.client


def _feed(client: BoardClient, q: Any, sensor: bool) -> Feed | None:
    from dhn_kit import watch

    if q is not None:
        return watch.playing(client, q)
    return watch.sensing(client) if sensor else None


def _until(events: Iterator[Event], count: int | None) -> Iterator[Event]:
    """All, or those up to the ``count``-th sample."""
    samples = itertools.count(1)
    for event in events:
        yield event
        if event.kind == "sample" and next(samples) == count:
            return


def _show(event: Event, json: bool) -> None:
    moment = time.strftime("%H:%M:%S", time.localtime(event.time)) + f".{int(event.time * 1000) % 1000:03}"
    if json:
        fields = {"text": event.data} if isinstance(event.data, str) else _fields(event)
        text = json_format.dumps({"time": round(event.time, 3), "kind": event.kind, **fields}, default=str)
    else:
        text = f"{moment}  {event.kind:<8}  {_words(event)}"
    print(text, flush=True)


def _fields(event: Event) -> dict[str, Any]:
    data: Any = event.data
    if event.kind != "sample":
        return asdict(data)
    shown = {k: v for k, v in vars(data).items() if k not in ("features", "input", "output", "reason", "label")}
    return {**shown, "reason": _reasons(data), "output": data.output.tolist()}


def _words(event: Event) -> str:
    data: Any = event.data
    if isinstance(data, str):
        return data
    if event.kind == "hello":
        return hello_line(data)
    if event.kind == "sample":
        return _sample_line(data)
    line = counters_line(data) if event.kind == "counters" else monitor_line(data)
    return line.partition(": ")[2]


def _reasons(sample: Sample) -> list[str]:
    return [(reason.name or "").lower() for reason in type(sample.reason) if reason in sample.reason]


def _sample_line(sample: Sample) -> str:
    tag = "" if sample.tag == 0xFFFFFFFF else f" of input {sample.tag}"
    end = "run in full" if sample.exit_hook < 0 else f"ended by hook {sample.exit_hook}"
    hooks = ", ".join(
        f"hook {k} {DECISIONS[decision]}" + (f" at {score}" if decision else "")
        for k, (decision, score) in enumerate(zip(sample.decisions, sample.scores, strict=True))
    )
    reasons = [reason.replace("_", " ") for reason in _reasons(sample)]
    if 0 < sample.propensity < 1:
        reasons.append(f"1 in {1 / sample.propensity:.3g}")
    parts = [
        f"{sample.number}{tag} ({', '.join(reasons)})",
        f"class {int(sample.output.argmax())}",
        f"{end} in {sum(sample.ticks):,} ticks",
        f"operating point {sample.operating_point}" if sample.bundle_version else "",
        hooks,
    ]
    return "; ".join(part for part in parts if part)
