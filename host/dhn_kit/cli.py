"""The command line: one command per step, errors of the user as one line."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from dhn_kit import __version__
from dhn_kit.commands import (
    console,
    device,
    environment,
    export,
    hooks,
    latency,
    model,
    results,
    status,
    training,
    watching,
)
from dhn_kit.errors import DhnError

app = typer.Typer(
    name="dhn-kit", rich_markup_mode=None, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

#: In the order in which they are used, which is also that of the help.
COMMANDS = (
    model.inspect,
    model.pack,
    device.build,
    device.flash,
    device.run,
    device.bench,
    hooks.collect,
    training.train,
    hooks.push,
    hooks.loop,
    status.status,
    watching.monitor,
    results.report,
    environment.boards,
    latency.latency,
    export.export,
    environment.doctor,
    results.demo,
    environment.init,
)

for _command in COMMANDS:
    app.command(_command.__name__)(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.line(f"dhn-kit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Deploy neural networks to microcontrollers, and let them spend less work on easy inputs.

    \b
    A network's way to the board:
      dhn-kit pack model.onnx --calib calib.npz -o model.dhn
      dhn-kit run model.dhn --board qemu-cortex-m4 --input x.npz --output y.npz

    \b
    Hooks that save work, trained from what the board saw:
      dhn-kit collect model.dhn samples.db --input x.npz
      dhn-kit train model.dhn samples.db -o hooks.dhn
      dhn-kit push hooks.dhn --pack model.dhn

    'dhn-kit COMMAND --help' explains a command, with examples.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Exit code 0: done; 1: the user, model or board was at fault; 2: wrong usage."""
    try:
        app(args=None if argv is None else list(argv), prog_name="dhn-kit")
    except DhnError as error:
        console.fail(str(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
