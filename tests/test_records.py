"""The host's record layouts are the runtime's."""
# SPDX-License-Identifier: Apache-2.0

import ctypes
import itertools
import shutil
from pathlib import Path

import pytest

from dhn_kit import records, resources, twin
from dhn_kit.errors import DhnError
from dhn_kit.interface import interface


def test_every_record_has_the_size_that_the_c_compiler_gives_it() -> None:
    sizes = [twin.library().twin_sizeof(i) for i in range(len(records.ALL))]
    assert sizes == [r.size for r in records.ALL]


def test_the_twin_keeps_as_many_hooks_as_the_host_reads() -> None:
    assert twin.library().twin_sizeof(len(records.ALL)) == twin.MAX_HOOKS


def test_a_twin_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "interface", lambda: "0" * 32)
    with pytest.raises(DhnError, match=r"compiled from other sources; .*make setup"):
        twin.library.__wrapped__()


def test_a_twin_that_does_not_say_what_it_is_made_for_is_refused() -> None:
    assert not twin._is_current(ctypes.CDLL(None))


@pytest.mark.parametrize("change", ["firmware/runtime/dhn_format.h", "mcu_kernels/ref/kernels.toml"])
def test_any_change_of_records_or_kernel_lists_is_another_interface(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("firmware/runtime", "mcu_kernels"):
        shutil.copytree(resources.root() / folder, tmp_path / folder)
    before = interface()
    monkeypatch.setattr(resources, "root", lambda: tmp_path)
    assert interface() == before
    (tmp_path / change).write_text((tmp_path / change).read_text() + "\n")
    assert interface() != before


def test_records_survive_packing_and_unpacking() -> None:
    values = {"shape": (1, 2, 3), "negate_b": 1, "a_stride": (6, 3, 1), "b_stride": (0, 0, 1), "a_mult": -5}
    back = records.BINARY.unpack(records.BINARY.pack(**values))
    assert {k: back[k] for k in values} == values


def _documented(name: str) -> list[tuple[str, str]]:
    """(type, field) rows of one record's table in FORMAT.md."""
    text = (resources.path("firmware") / "FORMAT.md").read_text()
    section = text.split(f"`{name}`, ", 1)[1].split("|---|---|---|\n", 1)[1]
    rows = itertools.takewhile(lambda line: line.startswith("|"), section.splitlines())
    cells = ([cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows)
    return [(kind, field) for _, kind, field in cells]


def test_format_md_states_every_record_field_by_field() -> None:
    codes = {"B": "u8", "b": "i8", "H": "u16", "h": "i16", "I": "u32", "i": "i32", "f": "f32"}
    for record in records.ALL:
        expected = []
        for field, code in record.fields:
            kind = "u8" if code.endswith("s") else codes[code[-1]]
            count = code[:-1]
            expected.append((f"{kind}[{count}]" if count else kind, field))
        assert _documented(record.name) == expected, record.name
