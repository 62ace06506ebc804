"""Resolves projects as PlatformIO does before it builds, without a process for each: what it found, as JSON.

Arguments: folders of projects, each with one environment.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import sys

from platformio.platform.factory import PlatformFactory
from platformio.project.config import ProjectConfig


def main() -> None:
    found = []
    for folder in sys.argv[1:]:
        os.chdir(folder)
        config = ProjectConfig("platformio.ini")
        config.validate(silent=True)
        (env,) = config.envs()
        platform = PlatformFactory.from_env(env, autoinstall=False)
        board = platform.board_config(config.get(f"env:{env}", "board"))
        (framework,) = config.get(f"env:{env}", "framework")
        assert framework in board.get("frameworks") and framework in platform.frameworks
        unknown = [key for key, _ in config.items(f"env:{env}") if key not in KNOWN and not key.startswith("board_")]
        found.append({"env": env, "platform": platform.name, "mcu": board.get("build.mcu"), "unknown": unknown})
    print(json.dumps(found))


KNOWN = {
    *("platform", "board", "framework", "monitor_speed", "upload_protocol", "upload_speed", "build_flags"),
    *("lib_archive", "lib_ignore"),
}

if __name__ == "__main__":
    main()
