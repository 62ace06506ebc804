"""Reads an ONNX file, checks it, fixes its shapes and folds its constants."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.inliner
import onnxslim
from google.protobuf.message import DecodeError
from onnx import TensorProto

from dhn_kit.errors import DhnError

OPSETS = range(11, 22)
#: Parts of onnxslim left off: its FusionConvMul takes a constant along the width for one per channel.
UNUSED = ["graph_fusion", "weight_tying"]
DOMAINS = ("", "ai.onnx")


def load(source: str | Path | bytes) -> onnx.ModelProto:
    """The checked model as the file has it. DhnError if it is no ONNX model or of a version not supported."""
    name = "the model" if isinstance(source, bytes) else f"'{source}'"
    try:
        model = onnx.load_model_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))
    except FileNotFoundError as error:
        raise DhnError(f"{name} does not exist; check the path") from error
    except OSError as error:
        raise DhnError(f"{name} cannot be read ({error.strerror}); check the path and its permissions") from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise DhnError(f"{name} is not an ONNX model or is truncated; export or copy it again") from error
    except onnx.checker.ValidationError as error:
        raise DhnError(f"{name} lacks its external data ({_first_line(error)}); put it beside the model") from error
    if not model.graph.node or not model.opset_import:
        raise DhnError(f"{name} is not an ONNX model or holds no nodes; export or copy it again")
    _check(model, name)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    return next((int(o.version) for o in model.opset_import if o.domain in DOMAINS), 0)


def _check(model: onnx.ModelProto, name: str) -> None:
    version = opset_of(model)
    if version not in OPSETS:
        raise DhnError(
            f"{name} uses opset {version}, supported are {OPSETS.start} to {OPSETS.stop - 1}; export it with opset 17"
        )
    for node in model.graph.node:
        if node.domain not in DOMAINS and not model.functions:
            raise DhnError(
                f"node '{node.name}' ({node.domain}::{node.op_type}): not a standard ONNX operator; replace it"
            )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        raise DhnError(f"{name} is not a valid ONNX model ({_first_line(error)}); export it again") from error


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with a batch of 1 where it was open, functions inlined, constants folded and every shape known."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    if fixed.functions:
        fixed = onnx.inliner.inline_local_functions(fixed)
    _fix_batch(fixed)
    try:
        slim = onnxslim.slim(fixed, skip_optimizations=UNUSED)
        inferred = onnx.shape_inference.infer_shapes(slim, strict_mode=True, data_prop=True)
    except Exception as error:  # both libraries raise whatever their C++ or their own bugs raise
        raise DhnError(f"the model's shapes cannot be inferred ({_first_line(error)}); export it again") from error
    for name in {i.name for i in real_inputs(fixed)} - {i.name for i in real_inputs(inferred)}:
        raise DhnError(f"input '{name}' is not used by the network; remove it from the model")
    return inferred


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in weights]


def _fix_batch(model: onnx.ModelProto) -> None:
    for value in real_inputs(model):
        tensor = value.type.tensor_type
        if tensor.elem_type == TensorProto.UINT8 and _only_cast_to_float(model, value.name):
            tensor.elem_type = TensorProto.FLOAT  # the casts then change nothing
        if tensor.elem_type != TensorProto.FLOAT:
            found = TensorProto.DataType.Name(tensor.elem_type)
            raise DhnError(f"input '{value.name}' is {found}; export the model with float32 inputs")
        if not tensor.HasField("shape") or not tensor.shape.dim:
            raise DhnError(f"input '{value.name}' has no shape with a batch axis; export it with a fixed shape")
        for axis, dim in enumerate(tensor.shape.dim):
            if axis == 0 and not dim.dim_value:
                dim.dim_value = 1
            if dim.dim_value < 1:
                raise DhnError(f"input '{value.name}': axis {axis} is dynamic; export it with a fixed size")
    # stale shapes, with the open batch still in them, would contradict what is inferred now
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _only_cast_to_float(model: onnx.ModelProto, name: str) -> bool:
    readers = [n for n in model.graph.node if name in n.input]
    return all(n.op_type == "Cast" and any(a.i == TensorProto.FLOAT for a in n.attribute) for n in readers)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__
