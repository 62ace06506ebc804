"""What a command says whose step this version does not have."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import NoReturn

from dhn_kit.errors import DhnError


def not_here_yet(command: str) -> NoReturn:
    raise DhnError(f"'{command}' is not part of this version; CHANGELOG.md says what is")
