"""Times 'dhn-kit flash' for an ESP32, firmware and hooks, against a stand-in for its boot loader: [NETWORK]."""
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "host"), str(ROOT / "tests")]

from dhn_kit.boards import load_board  # noqa: E402
from dhn_kit.bundle import bundle_file, save_bundle  # noqa: E402
from dhn_kit.commands.inputs import load_quantized, packed_for  # noqa: E402
from dhn_kit.esp_flash import build_folder, project_parts  # noqa: E402
from dhn_kit.hook_slots import confirmed_slot  # noqa: E402
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, HookSpec  # noqa: E402
from dhn_kit.platformio_project import write_project  # noqa: E402
from esp_mock import assert_flash_is, built_project, merged, running_chip  # noqa: E402
from test_runtime import exit_net  # noqa: E402

NETWORK = ROOT / "zoo" / "mnist_resnet8.onnx"


def main() -> None:
    board = load_board("esp32")
    network = Path(sys.argv[1]) if len(sys.argv) > 1 else NETWORK
    main_pack = packed_for(load_quantized(network, "random", None).graph, board)
    with tempfile.TemporaryDirectory() as name, running_chip() as chip:
        folder = Path(name)
        project = folder / "project"
        write_project(main_pack.data, network.stem, board, project, sample_bytes=8192, full_ticks=0)
        table = (project / "partitions.csv").read_text()
        built_project(project / ".pio/build/esp32", main_pack.data, table)
        main_pack.save(project / "model.dhn")
        bundle = bundle_file(main_pack, hooks_for(main_pack))
        save_bundle(bundle, folder / "hooks.dhn")

        firmware = flash(chip.url(), project, "--esptool", "--no-wait")
        parts = project_parts("esp32", build_folder(project), main_pack.data)
        image = merged(folder, parts)
        assert_flash_is(chip, image, folder)
        show("firmware", firmware)

        hooks = flash(chip.url(), project, "--hooks", str(folder / "hooks.dhn"), "--uncertified")
        slot = confirmed_slot(bundle.data, board.hook_flash.page_bytes)
        at = hooks["offset"]
        assert_flash_is(chip, image[:at] + slot + image[at + len(slot) :], folder)
        show(f"hooks (slot {hooks['slot']})", hooks)


def hooks_for(main_pack: Any) -> Bundle:
    point = len(main_pack.points) - 1
    return Bundle([HookSpec(point, "exit", exit_net(main_pack, point, 7), [NEVER, ALWAYS])], ["off", "on"], version=1)


def flash(port: str, project: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "dhn_kit.cli", "flash", str(project), "--board", "esp32", "--port", port]
    environment = {"PYTHONPATH": str(ROOT / "host")}
    done = subprocess.run(
        [*command, "--no-stub", "--json", *options], stdout=subprocess.PIPE, env=environment, check=True, timeout=300
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def show(what: str, done: dict[str, Any]) -> None:
    """The whole flash has just been compared, by its MD5, with what was meant to be there."""
    print(f"{what}: {done['written']:,} bytes in {done['seconds']:.1f} s, all 4 MB of flash verified")


if __name__ == "__main__":
    main()
