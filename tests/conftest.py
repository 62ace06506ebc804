"""What all tests share: limits, the folder of reference networks, and a count of what was not run without it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from dhn_kit import cli

# Other tests run beside it, so a slow example proves nothing; a failure prints what repeats it.
settings.register_profile("kit", deadline=None, max_examples=100, print_blob=True)
settings.load_profile("kit")

#: Runs a command of the command line: exit code, standard output, standard error.
Call = Callable[..., tuple[int, str, str]]

NOT_RUN = pytest.StashKey[int]()


def find_reference_dir() -> Path:
    """$DHN_REFERENCE, or ``shared`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("DHN_REFERENCE") or beside)


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder with ``models``, ``data`` and ``golden``; tests that take it are marked ``reference``."""
    return find_reference_dir()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def _call(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in argv])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return _call


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the folder the reference tests are deselected and counted; under CI its absence is an error."""
    if (find_reference_dir() / "models").is_dir():
        return
    reference = [item for item in items if item.get_closest_marker("reference")]
    if reference and os.environ.get("CI"):
        raise pytest.UsageError(
            f"{find_reference_dir()} lacks the reference networks; set DHN_REFERENCE to their folder"
        )
    config.stash[NOT_RUN] = len(reference)
    config.hook.pytest_deselected(items=reference)
    items[:] = [item for item in items if item not in reference]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its count to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["reference_not_run"] = session.config.stash.get(NOT_RUN, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker collects all tests, so that any one's count is the count."""
    node.config.stash[NOT_RUN] = getattr(node, "workeroutput", {}).get("reference_not_run", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(NOT_RUN, 0)
    if count:
        terminalreporter.write_line(f"reference tests not run: {count}", yellow=True)
