"""The host package flows in one direction: a stage imports only earlier stages."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "host" / "dhn_kit"

#: Modules and sub-packages of dhn_kit, earliest first. Each may import those above it, and nothing below.
#: What only a type checker sees does not count.
ORDER = [
    "errors", "resources", "interface", "graph", "records", "trailer",
    "expressions", "c_text", "boards", "platformio_run", "generic_boards",
    "kernels", "latency", "quant_math", "layouts",
    "float_reference", "luts", "int_reference", "sparsity",
    "onnx_import", "tflite_reader", "tflite_ops", "tflite_import",
    "quantize", "narrow",
    "hooks", "perception", "hookpoints",
    "plan", "plan_validator", "lower", "memory", "schedule", "patch", "variants", "selections", "strategy",
    "pack_meta", "pack", "unpack", "hook_programs", "bundle", "inspection", "cost", "poison",
    "twin", "precision", "optable",
    "link_map", "source_set", "firmware_build", "mpy_native", "micropython", "library",
    "framing", "samples", "sample_stream", "ports", "link", "board_client", "board_session",
    "hook_slots", "esp_partitions", "esp_tool", "esp_flash", "platformio_project", "platformio_build",
    "watch",
    "kernel_rig", "cycles", "latency_grid", "latency_terms", "latency_fit",
    "store",
    "datasets", "streams", "risk", "train", "report",
    "project", "doctor",
    "playback", "bench", "workflow", "verify", "demo",
    "commands", "cli",
]  # fmt: skip

Imports = dict[str, set[str]]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, functions' bodies included, but not what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).removeprefix("typing.") == "TYPE_CHECKING":
            continue
        yield child
        yield from running(child)


def module_name(path: Path, root: Path) -> str:
    """Dotted, below the package: "train.exits"; a sub-package's __init__ is "train", the root's is ""."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def targets(node: ast.AST) -> list[str]:
    """Dotted names of what an import statement brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imports_of(root: Path) -> Imports:
    """Who imports whom, each module by its dotted name below the package."""
    paths = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    found: Imports = {}
    for name, path in paths.items():
        dotted = {target for node in running(parse(path)) for target in targets(node)}
        inner = {target.removeprefix("dhn_kit.") for target in dotted if target.startswith("dhn_kit.")}
        # What is imported from a module is no module itself, then the module is meant.
        found[name] = {t if t in paths else t.rpartition(".")[0] for t in inner} - {name}
    return found


def units(imports: Imports) -> Imports:
    """The same between top-level modules and sub-packages."""
    found: Imports = {}
    for name, used in imports.items():
        unit = name.partition(".")[0]
        found.setdefault(unit, set()).update(u.partition(".")[0] for u in used)
    # The package's own __init__ holds the version and must not import anything.
    return {unit: used - {unit, ""} for unit, used in found.items()}


def backward(imports: Imports, order: list[str]) -> list[str]:
    """Each import of something that does not come earlier, in words."""
    place = {unit: i for i, unit in enumerate(order)}
    return sorted(
        f"{unit} imports {target}, which comes after it"
        for unit, used in units(imports).items()
        for target in used
        if unit and place[target] > place[unit]
    )


@pytest.fixture(scope="module")
def imports() -> Imports:
    return imports_of(PACKAGE)


def test_every_module_has_its_place_in_the_order(imports: Imports) -> None:
    assert len(set(ORDER)) == len(ORDER)
    assert set(units(imports)) - {""} <= set(ORDER), "give the new module its place in ORDER"


def test_a_stage_imports_only_earlier_stages(imports: Imports) -> None:
    assert backward(imports, ORDER) == []


def test_no_module_imports_itself_through_others(imports: Imports) -> None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as cycle:
        pytest.fail(" imports ".join(reversed(cycle.args[1])))


def test_importing_the_package_imports_no_stage(imports: Imports) -> None:
    assert imports[""] == set()


def test_only_the_command_line_imports_commands(imports: Imports) -> None:
    users = {unit for unit, used in units(imports).items() if used & {"commands", "cli"}}
    assert users == {"cli"}


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("from dhn_kit.late import x", ["early imports late, which comes after it"]),
        ("from dhn_kit import late", ["early imports late, which comes after it"]),
        ("import dhn_kit.late", ["early imports late, which comes after it"]),
        ("def f():\n    from dhn_kit.late.inner import x", ["early imports late, which comes after it"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dhn_kit.late import x", []),
        ("import numpy", []),
    ],
)
def test_the_rule_finds_a_planted_import(tmp_path: Path, source: str, fault: list[str]) -> None:
    (tmp_path / "late").mkdir()
    for file in ("__init__.py", "late/__init__.py", "late/inner.py"):
        (tmp_path / file).touch()
    (tmp_path / "early.py").write_text(source)
    assert backward(imports_of(tmp_path), ["early", "late"]) == fault
