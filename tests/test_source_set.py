"""The files that a pack needs: complete below one include folder, and no more than it calls."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from board_rig import small_pack
from dhn_kit.errors import DhnError
from dhn_kit.kernels import list_architectures, load_kernels
from dhn_kit.source_set import (
    PUBLIC,
    application_model,
    application_sources,
    arena_bytes,
    library_sources,
    pack_kernels,
    port_sources,
    registry_source,
    write_files,
)


def compiles(folder: Path, files: list[str]) -> str:
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fwrapv", "-fsyntax-only", "-I.", *files]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stderr


@pytest.mark.parametrize("arch", list_architectures())
def test_each_architectures_kernels_compile_below_one_folder(arch: str, tmp_path: Path) -> None:
    sources = library_sources((load_kernels(arch), ()))
    write_files(tmp_path, sources.files)
    assert set(PUBLIC) <= set(sources.headers)
    assert compiles(tmp_path, [*sources.runtime, *sources.kernels]) == ""


def test_a_pack_takes_its_kernels_and_apart_from_them_those_of_hooks() -> None:
    named, hooks = pack_kernels(small_pack().data, "ref", "is missing")
    sources = library_sources((named, hooks))
    assert "ref/conv.c" in sources.kernels and "ref/softmax.c" in sources.hook_kernels
    assert not set(sources.kernels) & set(sources.hook_kernels)
    assert "ref/binary.c" in sources.kernels and "ref/conv_masked.c" not in sources.files
    assert not any(place.startswith("portable/") for place in sources.files)


def test_a_kernel_that_the_core_lacks_is_named() -> None:
    data = bytearray(small_pack().data)
    at = small_pack().header["kernels"]
    data[at : at + 2] = (0x7F7F).to_bytes(2, "little")
    with pytest.raises(DhnError, match="the pack needs kernel 0x7F7F, which is missing"):
        pack_kernels(bytes(data), "ref", "is missing")


def test_the_application_compiles_from_one_flat_folder_beside_the_library(tmp_path: Path) -> None:
    image = small_pack().data
    groups = pack_kernels(image, "ref", "is missing")
    texts = application_model(image, groups, board="x" * 40, ram_bytes=65536, sample_bytes=2048)
    write_files(tmp_path, library_sources(groups).files)
    port = port_sources("posix")
    assert {"posix.c", "nor_flash.c", "nor_flash.h", "nor_rules.h"} == set(port)
    own: dict[str, Path | str | bytes] = {**application_sources(), **port, **texts}
    sizes = write_files(tmp_path / "src", own)
    assert sizes["model.c"] == len(texts["model.c"])
    assert compiles(tmp_path, [f"src/{name}" for name in own if name.endswith(".c") and name not in port]) == ""
    assert f"model_arena[{arena_bytes(image)}]" in texts["model.c"] and f'"{"x" * 31}"' in texts["registry.c"]
    with pytest.raises(DhnError, match="there is no port 'z80'"):
        port_sources("z80")


def test_a_file_that_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    text = registry_source((load_kernels("ref"), ()), "some", "dhn.h")
    assert "some_registry_count" in text
    write_files(tmp_path, {"a/some.c": text})
    before = (tmp_path / "a/some.c").stat().st_mtime_ns
    write_files(tmp_path, {"a/some.c": text})
    assert (tmp_path / "a/some.c").stat().st_mtime_ns == before
