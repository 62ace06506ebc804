"""Runs PlatformIO as a process that always ends, and says in one line what it complains of."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dhn_kit.errors import DhnError

#: Seconds. The first build of a project fetches its platform and compilers and compiles a whole framework.
BUILD_TIMEOUT, QUERY_TIMEOUT = 1800.0, 60.0
#: What PlatformIO prints when it cannot fetch something.
_OFFLINE = re.compile(r"HTTPClientError|InternetConnectionError|VCSBaseException|Could not resolve host")
_UNKNOWN = re.compile(r"UnknownPackageError|UnknownPlatform|Could not find the package")


class Fetching(DhnError):
    """PlatformIO lacks a package and cannot fetch it."""


def run_pio(arguments: Sequence[str], folder: Path | None = None, timeout: float = QUERY_TIMEOUT) -> tuple[int, str]:
    """PlatformIO's exit code, and what it printed on both streams. DhnError: it is not installed, or did not end."""
    if importlib.util.find_spec("platformio") is None:
        raise DhnError("PlatformIO is missing; install it with 'pip install platformio'")
    command = [sys.executable, "-m", "platformio", *arguments]
    with subprocess.Popen(
        command,
        cwd=folder,
        # Messages of its tools would be wrapped to the width of a terminal.
        env=os.environ | {"PLATFORMIO_SETTING_ENABLE_TELEMETRY": "No", "COLUMNS": "1000"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            text = process.communicate(timeout=timeout)[0]
        except BaseException as error:
            # What it started would go on without it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise DhnError(
                f"'pio {' '.join(arguments)}' did not end within {timeout:.0f} s and was stopped; "
                f"call it by hand{f' in {folder}' if folder else ''} to see what it waits for"
            ) from None
    return process.returncode, text


def fetching_error(text: str, platform: str) -> Fetching | None:
    """What to do if PlatformIO's output says that it could not get ``platform``, or a package of it."""
    command = f"'pio pkg install -g -p {platform}'"
    if _OFFLINE.search(text):
        return Fetching(f"PlatformIO cannot fetch platform '{platform}': no connection; once online, call {command}")
    if _UNKNOWN.search(text):
        return Fetching(f"PlatformIO does not find platform '{platform}' or a package of it; try {command}")
    return None
