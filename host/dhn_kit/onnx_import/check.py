"""Judges an imported graph by onnxruntime: what was misunderstood is refused, never passed on."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from dhn_kit.errors import DhnError
from dhn_kit.float_reference import float_outputs
from dhn_kit.graph import Array, Graph
from dhn_kit.onnx_import.load import real_inputs

#: Largest difference accepted, relative to the largest magnitude of an output: float32 sums in another order.
TOLERANCE = 1e-3
#: The newest file version that every supported onnxruntime reads; it does not change what opset 21 means.
IR_VERSION = 10


def check(graph: Graph, model: onnx.ModelProto) -> None:
    """Run both on one random batch; DhnError where an output differs."""
    rng = np.random.default_rng(0)
    batch = max(1, real_inputs(model)[0].type.tensor_type.shape.dim[0].dim_value)
    arrays = [
        (rng.integers(0, 256, shape) if _is_uint8(i) else rng.standard_normal(shape)).astype(np.float32)
        for i, shape in zip(real_inputs(model), [(batch, *port.user_shape) for port in graph.inputs], strict=True)
    ]
    with np.errstate(all="ignore"):
        ours = float_outputs(graph, arrays)
    for port, mine, reference in zip(graph.outputs, ours, _onnxruntime(model, arrays), strict=True):
        if not _close(mine, reference):
            raise DhnError(
                f"output '{port.name}' of the imported network differs from onnxruntime's; please report this model"
            )


def _is_uint8(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _onnxruntime(model: onnx.ModelProto, arrays: list[Array]) -> list[Array]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {
            i.name: a.astype(np.uint8) if "uint8" in i.type else a
            for i, a in zip(session.get_inputs(), arrays, strict=True)
        }
        return [np.asarray(y) for y in session.run(None, feed)]
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = str(error).splitlines()[0][:160]
        raise DhnError(f"onnxruntime cannot run the model ({reason}); export it again") from error


def _close(mine: Array, reference: Array) -> bool:
    finite = reference[np.isfinite(reference)]
    scale = float(np.abs(finite).max()) if finite.size else 1.0
    return mine.size == reference.size and np.allclose(
        mine.reshape(reference.shape), reference, rtol=0.0, atol=TOLERANCE * scale + 1e-6, equal_nan=True
    )
