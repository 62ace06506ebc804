"""Set-up asks for exactly the system packages that a machine lacks."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "setup.sh"
TOOLS = ("cat", "cksum", "dirname", "env", "find", "sort", "tr", "xargs")
OTHER_CORES = "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf gcc-xtensa-lx106 qemu-system-misc"
OTHER_TOOLS = ("riscv64-unknown-elf-gcc", "xtensa-lx106-elf-gcc", "qemu-system-riscv32", "qemu-system-xtensa")
ALL = f"gcc libc6-dev python3-venv gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm {OTHER_CORES} cppcheck"


class Machine:
    """A PATH of its own. apt-get writes down what it is asked for and fails, which ends set-up there."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        for tool in TOOLS:
            path = shutil.which(tool)
            assert path is not None
            (self.bin / tool).symlink_to(path)
        self.plant("id", "echo 0")
        # Python without the venv module.
        self.plant("python3", 'case "$2" in *venv*) exit 1;; esac')
        self.plant("apt-get", f'echo "apt-get $*" >>{self.log}\n[ "$1" = update ]')

    def plant(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def setup(self) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin)}
        return subprocess.run(
            ["/bin/sh", SCRIPT], capture_output=True, text=True, env=environment, check=False, timeout=60
        )

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def install(packages: str) -> list[str]:
    return ["apt-get update -q", f"apt-get install -y --no-install-recommends {packages} ".rstrip()]


def test_bare_machine_gets_every_package(machine: Machine) -> None:
    assert machine.setup().returncode != 0
    assert machine.asked() == install(ALL)


def test_what_is_there_is_not_asked_for(machine: Machine) -> None:
    machine.plant("gcc", "cat >/dev/null")
    machine.plant("python3", ":")
    machine.plant("qemu-system-arm", ":")
    machine.plant("cppcheck", ":")
    machine.setup()
    assert machine.asked() == install(f"gcc-arm-none-eabi libnewlib-arm-none-eabi {OTHER_CORES}")


def test_compiler_without_its_library_gets_the_library(machine: Machine) -> None:
    for tool in ("gcc", "qemu-system-arm", "cppcheck", "python3", *OTHER_TOOLS):
        machine.plant(tool, "[ -t 0 ] || cat >/dev/null")
    machine.plant("arm-none-eabi-gcc", "echo nano.specs")
    machine.setup()
    assert machine.asked() == install("libnewlib-arm-none-eabi")


def test_user_installs_with_sudo(machine: Machine) -> None:
    machine.plant("id", "echo 1000")
    machine.plant("sudo", f'echo sudo >>{machine.log}\n"$@"')
    machine.setup()
    assert [line for line in machine.asked() if line != "sudo"] == install(ALL)
    assert machine.asked().count("sudo") == 2


def test_user_without_sudo_is_told_what_root_has_to_call(machine: Machine) -> None:
    machine.plant("id", "echo 1000")
    done = machine.setup()
    assert done.returncode == 1
    assert f"apt-get install -y --no-install-recommends {ALL}" in done.stderr
    assert machine.asked() == []


def test_machine_without_apt_is_told_the_names(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    done = machine.setup()
    assert done.returncode == 1
    assert ALL in done.stderr


def test_old_python_is_refused_first(machine: Machine) -> None:
    machine.plant("python3", "exit 1")
    done = machine.setup()
    assert (done.returncode, machine.asked()) == (1, [])
    assert "needs Python 3.11" in done.stderr
