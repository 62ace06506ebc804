"""How commands speak: results on stdout, progress and complaints on stderr."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dhn_kit.errors import DhnError

T = TypeVar("T")


def emit_json(value: object) -> None:
    """One JSON document on stdout; dataclasses become objects."""
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return value.tolist()
    return str(value)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout. Columns whose name starts with ``>`` are aligned to the right."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        grid.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=not sys.stdout.isatty())
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    # A pipe has no width to keep to.
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 400)
    console.print(grid)
    console.print()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def line(text: str) -> None:
    """One line of a result on stdout."""
    print(text)


def step(text: str) -> None:
    """What is being done now, one line on stderr."""
    _stderr().print(text, style="bold", soft_wrap=True)


def warn(text: str) -> None:
    _stderr().print(f"dhn-kit: {text}", style="yellow", soft_wrap=True)


def fail(text: str) -> None:
    _stderr().print(f"dhn-kit: error: {' '.join(text.split())}", style="red", soft_wrap=True)


def busy(text: str) -> AbstractContextManager[object]:
    """Shows on a terminal's stderr that something is going on."""
    return _stderr().status(text)


def asks() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def choose(items: Sequence[T]) -> T:
    """Has the user pick one of several, by number."""
    for number, item in enumerate(items, 1):
        step(f"{number}  {item}")
    answer = 0
    while not 1 <= answer <= len(items):
        _stderr().print(f"Which one (1 to {len(items)})? ", end="")
        text = sys.stdin.readline()
        if not text:
            raise DhnError("nothing was chosen; say it with an option")
        answer = int(text) if text.strip().isdecimal() else 0
    return items[answer - 1]


def progress(items: Sequence[T], text: str) -> Iterator[T]:
    """Passes the items on, with a bar on stderr where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = _stderr()
    # Elsewhere rich would write an empty line when the bar goes.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(items, description=text)


def _stderr() -> Console:
    return Console(stderr=True, markup=False, highlight=False)
