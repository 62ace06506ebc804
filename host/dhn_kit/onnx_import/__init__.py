"""ONNX in: a model file of opset 11 to 21 becomes the canonical NHWC graph."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

from dhn_kit.graph import Graph
from dhn_kit.onnx_import.check import check
from dhn_kit.onnx_import.convert import convert
from dhn_kit.onnx_import.load import load, prepare

__all__ = ["import_onnx"]


def import_onnx(source: str | Path | bytes, name: str | None = None) -> Graph:
    """Import an ONNX model, float32, axis 0 of every input being the batch (fixed to one sample).

    ``name`` defaults to the file's stem, or the name inside the model. Constants, batch normalisation, scalar input
    normalisation and clamping activations are folded. The result is compared with onnxruntime on one random input.
    Raises DhnError, naming the node, for whatever is not supported.
    """
    model = load(source)
    if name is None:
        name = model.graph.name or "model" if isinstance(source, bytes) else Path(source).stem
    graph = convert(prepare(model), name)
    check(graph, model)
    return graph
