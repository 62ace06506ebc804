"""Expressions of kernels.toml: the host's evaluation, the C text, and what is refused."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dhn_kit import expressions

FIELDS = {"in_c": 12, "kh": 3, "kw": 3, "out_c": 16, "stride_h": 2}
CASES = [
    ("in_c % 4 == 0 and kh == 3", 1),
    ("not (stride_h == 1) or kw != 3", 1),
    ("4 * min(in_c, out_c) + max(kh, 7) * 2 - 1", 61),
    ("(in_c * kh * kw + 3) // 4 * 4", 108),
    ("out_c * 65535 * 65535 * kh", 16 * 65535 * 65535 * 3),
    ("-kh + 1 < 0", 1),
]


@pytest.mark.parametrize(("text", "value"), CASES)
def test_host_evaluates(text: str, value: int) -> None:
    assert expressions.evaluate(text, FIELDS) == value


def test_c_text_computes_the_same(tmp_path: Path) -> None:
    lines = [f'    printf("%lld\\n", (long long)({expressions.to_c(text)}));' for text, _ in CASES]
    fields = " ".join(f"uint16_t {name};" for name in FIELDS)
    values = ", ".join(str(v) for v in FIELDS.values())
    source = tmp_path / "e.c"
    source.write_text(
        '#include <stdio.h>\n#include "dhn_kernels.h"\n'
        f"typedef struct {{ {fields} }} t;\nint main(void) {{\n    t v = {{{values}}}; const t *p = &v;\n"
        + "\n".join(lines)
        + "\n}\n"
    )
    program = tmp_path / "e"
    folder = Path(__file__).parents[1] / "mcu_kernels"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", f"-I{folder}", source, "-o", program], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    assert [int(p) for p in printed] == [value for _, value in CASES]


@pytest.mark.parametrize(
    "text", ["kh ** 2", "f(kh)", "kh < kw < 3", "'a'", "kh if kw else 1", "kh / 2", "p.kh", "kh +"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed|expression"):
        expressions.parse(text)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(KeyError, match="rows"):
        expressions.evaluate("rows * 2", FIELDS)
