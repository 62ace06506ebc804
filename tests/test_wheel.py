"""A wheel holds all that the package needs: it works from an empty folder, away from the checkout."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        cwd=environment.pop("cwd", None),
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which a freshly built wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    common = ("-q", "--no-deps", "--disable-pip-version-check")
    build_dir = f"--config-settings=build-dir={folder / 'build'}"
    run("-m", "pip", "wheel", *common, "--no-build-isolation", build_dir, "-w", folder, ROOT)
    (wheel,) = folder.glob("dhn_kit-*.whl")
    run("-m", "pip", "install", *common, "--target", folder / "site", wheel)
    return folder / "site"


def test_kernels_firmware_templates_boards_and_zoo_travel_in_the_wheel(site: Path) -> None:
    for folder in ("mcu_kernels", "firmware", "templates", "boards", "zoo", "cmake"):
        here = {p.relative_to(ROOT) for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"}
        assert here
        assert not {p for p in here if not (site / "dhn_kit" / "_data" / p).is_file()}
    assert all((site / "dhn_kit" / "_data" / name).is_file() for name in ("CMakeLists.txt", "LICENSE"))


def test_wheel_packs_a_network_with_its_own_twin_and_kernels(site: Path, tmp_path: Path) -> None:
    script = (
        "import sys; import dhn_kit.cli as cli; from dhn_kit import resources, twin;"
        "assert cli.__file__.startswith(sys.argv[1]) and str(resources.root()).startswith(sys.argv[1]);"
        "assert twin.library()._name.startswith(sys.argv[1]);"
        "cli.main(['inspect', str(resources.path('zoo') / 'mnist_resnet8.onnx'), '--calib', 'random', '--json'])"
    )
    # -S keeps out what an editable installation of the checkout hooks into the import system.
    path = os.pathsep.join([str(site), sysconfig.get_path("purelib")])
    out = run("-S", "-c", script, site, PYTHONPATH=path, cwd=str(tmp_path))
    assert '"name": "mnist_resnet8"' in out
