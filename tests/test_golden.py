"""Every layer of the MLPerf Tiny networks equals TFLite Micro, byte for byte, in the twin and in NumPy."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dhn_kit.graph import Array, Graph
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import pack
from dhn_kit.tflite_import import import_tflite
from dhn_kit.twin import Twin

NETWORKS = {"ic": "ic_resnet8_int8.tflite", "kws": "kws_dscnn_int8.tflite"}
INPUTS = 8
TAPPED = 2  # the first inputs have every layer on file

pytestmark = [pytest.mark.reference, pytest.mark.parametrize("name", NETWORKS)]


def load(name: str, folder: Path) -> tuple[Graph, dict[str, Array], Array]:
    graph = import_tflite(folder / "models" / NETWORKS[name])
    with np.load(folder / "golden" / f"{name}_tflm.npz") as file:
        golden = {key: file[key] for key in file.files}
    q = graph.quantize_input(np.concatenate([golden[f"input_{i}"] for i in range(INPUTS)]))
    return graph, golden, q


def compare(graph: Graph, golden: dict[str, Array], layers: dict[str, Array], output: Array) -> tuple[int, int, int]:
    """(layers compared, bytes compared, bytes that differ)."""
    tensor = {f"op{n.attrs['tflite_index']:02}_{n.attrs['tflite_op']}": n.output for n in graph.nodes}
    expected = {
        (i, key.split("/")[1]): golden[key] for i in range(TAPPED) for key in golden if key.startswith(f"layer_{i}/")
    }
    assert {key for _, key in expected} == set(tensor), "every operator of the file has a golden layer and a node"
    pairs = [(layers[tensor[key]][i], value) for (i, key), value in expected.items()]
    pairs += [(output[i], golden[f"output_{i}"]) for i in range(INPUTS)]
    wrong = sum(int(np.count_nonzero(ours.reshape(-1) != theirs.reshape(-1))) for ours, theirs in pairs)
    return len(pairs), sum(theirs.size for _, theirs in pairs), wrong


@pytest.mark.parametrize("hooks", [True, False], ids=["hook-points", "plain"])
def test_twin_equals_tflite_micro_in_every_layer(name: str, hooks: bool, reference_dir: Path) -> None:
    graph, golden, q = load(name, reference_dir)
    result = Twin(pack(graph, hooks=hooks)).run(q, taps=[n.output for n in graph.nodes])
    count, size, wrong = compare(graph, golden, dict(result.layers), result.output)
    print(f"{name} twin, hooks={hooks}: {wrong} of {size} bytes differ in {count} arrays")
    assert wrong == 0


def test_integer_reference_equals_tflite_micro_in_every_layer(name: str, reference_dir: Path) -> None:
    graph, golden, q = load(name, reference_dir)
    layers = run_int8(graph, q)
    count, size, wrong = compare(graph, golden, dict(layers), layers[graph.outputs[0].tensor])
    print(f"{name} integer reference: {wrong} of {size} bytes differ in {count} arrays")
    assert wrong == 0
