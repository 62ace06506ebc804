#!/bin/sh
# Checks style, types and static faults of all code; prints what fails, and fails at the end if anything did.
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
failed=

check() {
    command -v "$1" >/dev/null || { echo "lint: $1 is missing; call 'make setup'" >&2; failed="$failed $1"; return 1; }
    "$@" && return 0
    # Each tool is named once, however many files it fails on.
    case "$failed " in *" $1 "*) ;; *) failed="$failed $1" ;; esac
    return 1
}

c_files=$(find firmware mcu_kernels host/twin -name '*.[ch]' | sort)
c_folders=$(echo "$c_files" | xargs -n1 dirname | sort -u)

check ruff check -q .
check ruff format -q --check .
check mypy --no-error-summary
for file in $c_files $(find firmware -name '*.cpp' | sort); do
    check clang-format --dry-run -Werror "$file" 2>/dev/null || echo "$file: not formatted; call 'make format'"
done
# natmod.c defines memcpy itself: cppcheck then takes what others have filled by it for read before it was set.
# shellcheck disable=SC2086,SC2046
check cppcheck -q --std=c99 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 \
    --suppress=missingIncludeSystem --suppress=unusedStructMember \
    --suppress=constStatement:mcu_kernels/armv7em/tile_w8.h --suppress=constStatement:mcu_kernels/armv7em/tile_w16.h \
    --suppress=constStatement:mcu_kernels/armv7em/tile_gated.h \
    --suppress=ctuuninitvar:firmware/micropython/natmod.c $(echo $c_folders | sed 's/[^ ]*/-I &/g') $c_files
check scripts/banned.sh

[ -z "$failed" ] || { echo "lint: failed:$failed" >&2; exit 1; }
