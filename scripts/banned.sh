#!/bin/sh
# Finds what runtime and kernels must not hold: heap, stdio, floating point, writable static data.
# SPDX-License-Identifier: Apache-2.0
#
# Looks twice: at the words of the sources, without comments, and at what the compiler made of them.
# Usage: scripts/banned.sh [FOLDER...]; each folder is a set of C files with its headers in it or in the usual places.
set -u
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- firmware/runtime mcu_kernels/*/
cc="arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfloat-abi=soft -std=c99 -O2 -ffreestanding"
words='malloc|calloc|realloc|free|alloca|[a-z]*printf|puts|putchar|float|double|setjmp|longjmp|errno'
headers='stdio|stdlib|math|float|time|setjmp|errno|assert'
# Undefined symbols that an object may have: our own, string.h, and the compiler's 64-bit integer helpers.
allowed='dhn_[a-z0-9_]*|mem(cpy|set|move|cmp)|__aeabi_(mem[a-z0-9]*|u?l?divmod|lmul|ll?sl|ll?sr|lasr|u?idiv(mod)?|ulcmp|lcmp)'
object=$(mktemp)
trap 'rm -f "$object"' EXIT
failed=0

fault() { echo "banned: $1: $2" >&2; failed=1; }

check_words() {
    # -fpreprocessed: comments go, nothing is expanded.
    found=$($cc -fpreprocessed -dD -E -P "$1" | grep -nwE "$words|include <($headers)\.h>" | head -3)
    [ -z "$found" ] || fault "$1" "$found"
}

check_object() {
    $cc -I firmware/runtime -I mcu_kernels -I "$(dirname "$1")" -c -o "$object" "$1" || { fault "$1" "does not compile"; return; }
    static=$(arm-none-eabi-size "$object" | awk 'NR == 2 { print $2 + $3 }')
    [ "$static" = 0 ] || fault "$1" "$static bytes of writable static data"
    foreign=$(arm-none-eabi-nm -u "$object" | awk '{ print $2 }' | grep -vxE "$allowed" | tr '\n' ' ')
    [ -z "$foreign" ] || fault "$1" "calls $foreign"
}

command -v arm-none-eabi-gcc >/dev/null || { fault arm-none-eabi-gcc "missing; call 'make setup'"; exit 1; }
for folder; do
    for file in "$folder"/*.[ch]; do
        [ -e "$file" ] || continue
        check_words "$file"
        case $file in *.c) check_object "$file" ;; esac
    done
done
exit $failed
