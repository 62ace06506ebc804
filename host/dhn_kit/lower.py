"""Turns a quantised graph into kernel calls with resolved parameters; nothing is placed in memory yet."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dhn_kit import luts
from dhn_kit.graph import Array, Graph, Node, Quant, Shape, Tensor
from dhn_kit.kernels import Kernel, reference_kernels
from dhn_kit.layouts import Call, Prepared, prepare
from dhn_kit.quant_math import mean_multiplier, quantize_multiplier
from dhn_kit.records import ConstPool


@dataclass(frozen=True)
class Operand:
    """A tensor of the arena (``offset`` bytes into it), or int8 bytes that live in the pack."""

    tensor: str = ""
    offset: int = 0
    const: bytes | None = None


@dataclass
class Op:
    """One kernel call. ``call`` describes it to any kernel, ``prepared`` is what `kernel` made of it.

    ``in_place``: the shapes allow the output to be the very bytes of an input (the kernel must allow it too).
    ``group``, ``variant``: it runs only while the variant of its group (0: none, it always runs) is selected.
    """

    name: str
    node: int
    kernel: Kernel
    in0: Operand
    out: Operand
    call: Call
    prepared: Prepared
    in1: Operand | None = None
    macs: int = 0
    outputs: int = 0
    in_place: bool = False
    group: int = 0
    variant: int = 0

    @property
    def scratch_bytes(self) -> int:
        return self.kernel.scratch_bytes(self.prepared.values)

    @property
    def lead(self) -> int | None:
        """Bytes by which the output must lie below the first input to overlap it; None: they must lie apart."""
        return self.kernel.lead_bytes(self.prepared.values)

    def params(self, pool: ConstPool) -> bytes:
        """The record, with its constants in the pool."""
        offsets = {name: pool.add(data) for name, data in self.prepared.consts.items()}
        return self.prepared.record.pack(**{**self.prepared.values, **offsets})

    def with_kernel(self, kernel: Kernel) -> Op:
        """The same by another kernel; layouts.Unfit if it does not cover this one."""
        return dataclasses.replace(self, kernel=kernel, prepared=prepare(kernel, self.call))


@dataclass
class Lowered:
    """``aliases[t]`` is the tensor whose very bytes t is (reshape). ``tensors`` also holds temporaries.

    ``overlaps[below, above]``: these tensors may share bytes if `above` starts at least so many bytes behind `below`,
    because of the order in which the ops go through them. ``ending``: with variant 1 of this group selected the program
    ends behind the last op of that variant; 0: never.
    """

    graph: Graph
    ops: list[Op]
    tensors: dict[str, Tensor]
    aliases: dict[str, str] = field(default_factory=dict)
    overlaps: dict[tuple[str, str], int] = field(default_factory=dict)
    ending: int = 0


def alternatives(ops: Sequence[Op], number: int) -> Sequence[Op]:
    """The ops of one step, the first of them `number`: it, and the other variants of its group that follow it at once
    and write the same bytes. At most one of them runs. Empty if `number` is not the first."""

    def joined(a: Op, b: Op) -> bool:
        return a.group != 0 and a.group == b.group and a.variant != b.variant and a.out == b.out

    if number and joined(ops[number - 1], ops[number]):
        return ()
    end = number + 1
    while end < len(ops) and joined(ops[end - 1], ops[end]):
        end += 1
    return ops[number:end]


def lower(graph: Graph) -> Lowered:
    """Every node becomes zero (reshape), one or a few ops, all by reference kernels. The graph must be quantised."""
    assert graph.quantized, "lower() takes a quantised graph"
    builder = _Builder(graph)
    for index, node in enumerate(graph.nodes):
        builder.node = index
        getattr(builder, "_" + node.op)(node)
    return Lowered(graph, builder.ops, builder.tensors, builder.aliases)


def _strides(shape: Shape) -> tuple[int, int, int]:
    return shape[1] * shape[2], shape[2], 1


def _broadcast_strides(shape: Shape, out: Shape) -> tuple[int, ...]:
    return tuple(0 if n == 1 and m > 1 else s for n, m, s in zip(shape, out, _strides(shape), strict=True))


class _Builder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors = {k: Tensor(t.name, t.shape, t.quant) for k, t in graph.tensors.items()}
        self.aliases: dict[str, str] = {}
        self.ops: list[Op] = []
        self.node = 0

    def _quant(self, name: str) -> Quant:
        quant = self.tensors[name].quant
        assert quant is not None
        return quant

    def _emit(
        self,
        node: Node,
        op: str,
        in0: Operand,
        out: Operand,
        values: Mapping[str, Any],
        consts: Mapping[str, bytes] | None = None,
        weights: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        kernel = reference_kernels()[op]
        call = Call(op, kernel.record, values, consts or {}, **(weights or {}))
        prepared = prepare(kernel, call)
        self.ops.append(
            Op(name=node.name, node=self.node, kernel=kernel, in0=in0, out=out, call=call, prepared=prepared, **more)
        )

    def _act(self, node: Node) -> dict[str, int]:
        low, high = node.attrs.get("act_q", (-128, 127))
        return {"act_min": int(low), "act_max": int(high)}

    def _channels(self, node: Node) -> dict[str, Any]:
        """Weights and per-channel requantisation: TFLite's effective scale in double precision."""
        x, y = self._quant(node.inputs[0]), self._quant(node.output)
        bias = np.asarray(node.attrs["bias"], np.int32)
        scales = np.broadcast_to(np.asarray(node.attrs["weight_scale"], np.float64), bias.shape)
        pairs = [quantize_multiplier(x.scale * float(s) / y.scale) for s in scales]
        return {
            "weight": np.ascontiguousarray(node.attrs["weight"], np.int8),
            "bias": bias,
            "mult": np.array([m for m, _ in pairs], np.int32),
            "shift": np.array([e for _, e in pairs], np.int8),
        }

    def _emit_weighted(self, node: Node, fixed: Mapping[str, Any], **more: Any) -> None:
        weights = self._channels(node)
        points = {
            "in_zp": self._quant(node.inputs[0]).zero_point,
            "out_zp": self._quant(node.output).zero_point,
        }
        operands = Operand(node.inputs[0]), Operand(node.output)
        consts = {name: array.tobytes() for name, array in weights.items()}
        self._emit(node, node.op, *operands, {**fixed, **points, **self._act(node)}, consts, weights, **more)

    def _convolution(self, node: Node, kh: int, kw: int, macs_per_output: int) -> None:
        a = node.attrs
        in_shape, out_shape = self.tensors[node.inputs[0]].shape, self.tensors[node.output].shape
        fixed = {
            **dict(zip(("in_h", "in_w", "in_c"), in_shape, strict=True)),
            **dict(zip(("out_h", "out_w", "out_c"), out_shape, strict=True)),
            "kh": kh,
            "kw": kw,
            "stride_h": a["stride"][0],
            "stride_w": a["stride"][1],
            "dilation_h": a["dilation"][0],
            "dilation_w": a["dilation"][1],
            "pad_t": a["pad"][0],
            "pad_l": a["pad"][1],
            "groups": a.get("groups", 1) if node.op == "conv2d" else 1,
        }
        outputs = int(np.prod(out_shape))
        self._emit_weighted(
            node, fixed, macs=outputs * macs_per_output, outputs=outputs, in_place=in_shape == out_shape
        )

    def _conv2d(self, node: Node) -> None:
        _, kh, kw, depth = node.attrs["weight"].shape
        self._convolution(node, kh, kw, kh * kw * depth)

    def _depthwise_conv2d(self, node: Node) -> None:
        kh, kw, _ = node.attrs["weight"].shape
        self._convolution(node, kh, kw, kh * kw)

    def _fully_connected(self, node: Node) -> None:
        out_c, in_c = node.attrs["weight"].shape
        h, w, _ = self.tensors[node.output].shape
        fixed = {"rows": h * w, "in_c": in_c, "out_c": out_c}
        self._emit_weighted(node, fixed, macs=h * w * in_c * out_c, outputs=h * w * out_c)

    def _sides(self, node: Node) -> list[tuple[Operand, Shape, Quant]]:
        """Operands in order; a constant one is quantised by import or quantise (``const_quant``)."""
        sides = [(Operand(name), self.tensors[name].shape, self._quant(name)) for name in node.inputs]
        if "const" in node.attrs:
            const = np.ascontiguousarray(node.attrs["const"], np.int8)
            shape = (const.shape[0], const.shape[1], const.shape[2])
            side = (Operand(const=const.tobytes()), shape, node.attrs["const_quant"])
            sides.insert(0 if node.attrs.get("const_first") else 1, side)
        return sides

    def _binary(self, node: Node, kernel: str, requantize: dict[str, int], negate: bool = False) -> None:
        (a, a_shape, qa), (b, b_shape, qb) = self._sides(node)
        out = self.tensors[node.output]
        values = {
            "shape": out.shape,
            "negate_b": int(negate),
            "a_stride": _broadcast_strides(a_shape, out.shape),
            "b_stride": _broadcast_strides(b_shape, out.shape),
            "a_zp": qa.zero_point,
            "b_zp": qb.zero_point,
            "out_zp": self._quant(node.output).zero_point,
            **self._act(node),
            **requantize,
        }
        self._emit(
            node,
            kernel,
            a,
            Operand(node.output),
            values,
            in1=b,
            outputs=out.size,
            in_place=a_shape == out.shape and a.const is None,
        )

    def _sum(self, node: Node, negate: bool) -> None:
        """TFLite's ADD and SUB: both sides at twice the larger scale, 20 bits up."""
        (_, _, qa), (_, _, qb) = self._sides(node)
        twice_max = 2.0 * max(qa.scale, qb.scale)
        left_shift = 20
        a, b = quantize_multiplier(qa.scale / twice_max), quantize_multiplier(qb.scale / twice_max)
        out = quantize_multiplier(twice_max / ((1 << left_shift) * self._quant(node.output).scale))
        requantize = {
            "left_shift": left_shift,
            "a_mult": a[0],
            "a_shift": a[1],
            "b_mult": b[0],
            "b_shift": b[1],
            "out_mult": out[0],
            "out_shift": out[1],
        }
        self._binary(node, "add", requantize, negate)

    def _add(self, node: Node) -> None:
        self._sum(node, negate=False)

    def _sub(self, node: Node) -> None:
        self._sum(node, negate=True)

    def _mul(self, node: Node) -> None:
        (_, _, qa), (_, _, qb) = self._sides(node)
        mult, shift = quantize_multiplier(qa.scale * qb.scale / self._quant(node.output).scale)
        self._binary(node, "mul", {"out_mult": mult, "out_shift": shift})

    def _pool(self, node: Node) -> None:
        a = node.attrs
        in_shape, out = self.tensors[node.inputs[0]].shape, self.tensors[node.output]
        values = {
            **dict(zip(("in_h", "in_w", "c"), in_shape, strict=True)),
            "out_h": out.shape[0],
            "out_w": out.shape[1],
            "kh": a["kernel"][0],
            "kw": a["kernel"][1],
            "stride_h": a["stride"][0],
            "stride_w": a["stride"][1],
            "pad_t": a["pad"][0],
            "pad_l": a["pad"][1],
            **self._act(node),
        }
        taps = a["kernel"][0] * a["kernel"][1]
        operands = Operand(node.inputs[0]), Operand(node.output)
        self._emit(node, node.op, *operands, values, outputs=out.size, macs=out.size * taps)

    _max_pool = _pool
    _avg_pool = _pool

    def _mean(self, node: Node) -> None:
        h, w, c = self.tensors[node.inputs[0]].shape
        x, y = self._quant(node.inputs[0]), self._quant(node.output)
        mult, shift = mean_multiplier(x.scale / y.scale, h * w)
        values = {
            "pixels": h * w,
            "c": c,
            "in_zp": x.zero_point,
            "out_zp": y.zero_point,
            "mult": mult,
            "shift": shift,
        }
        operands = Operand(node.inputs[0]), Operand(node.output)
        self._emit(node, "mean", *operands, values, outputs=c, macs=h * w * c)

    def _table(self, node: Node, source: str, target: str, table: Array) -> None:
        count = self.tensors[source].size
        data = np.ascontiguousarray(table, np.int8).tobytes()
        self._emit(
            node,
            "unary",
            Operand(source),
            Operand(target),
            {"count": count},
            {"table": data},
            outputs=count,
            in_place=True,
        )

    def _unary(self, node: Node) -> None:
        x, y = self._quant(node.inputs[0]), self._quant(node.output)
        params = node.attrs.get("params", {})
        table = luts.unary_table(node.attrs["fn"], params, x, y, self.graph.source)
        self._table(node, node.inputs[0], node.output, table)

    def _softmax(self, node: Node) -> None:
        h, w, c = self.tensors[node.output].shape
        table = luts.softmax_table(node.attrs.get("beta", 1.0), self._quant(node.inputs[0]))
        data = np.ascontiguousarray(table, np.int32).tobytes()
        self._emit(
            node,
            "softmax",
            Operand(node.inputs[0]),
            Operand(node.output),
            {"rows": h * w, "c": c},
            {"table": data},
            outputs=h * w * c,
            in_place=True,
        )

    def _copy(
        self, node: Node, source: Operand, target: Operand, shape: Shape, in_stride: Any, out_stride: Any
    ) -> None:
        values = {"shape": shape, "in_stride": tuple(in_stride), "out_stride": tuple(out_stride)}
        self._emit(node, "copy", source, target, values, outputs=int(np.prod(shape)))

    def _concat(self, node: Node) -> None:
        out = self.tensors[node.output]
        strides = _strides(out.shape)
        offset = 0
        for name in node.inputs:
            shape = self.tensors[name].shape
            source = self._matching(node, name, self._quant(node.output))
            target = Operand(node.output, offset)
            self._copy(node, Operand(source), target, shape, _strides(shape), strides)
            offset += shape[node.attrs["axis"]] * strides[node.attrs["axis"]]

    def _matching(self, node: Node, name: str, quant: Quant) -> str:
        """The tensor itself, or a requantised temporary."""
        if self._quant(name) == quant:
            return name
        temporary = f"{node.name}/{name}/requantized"
        self.tensors[temporary] = Tensor(temporary, self.tensors[name].shape, quant)
        table = luts.unary_table("requantize", {}, self._quant(name), quant, self.graph.source)
        self._table(node, name, temporary, table)
        return temporary

    def _pad(self, node: Node) -> None:
        shape, out = self.tensors[node.inputs[0]].shape, self.tensors[node.output]
        value = int(self._quant(node.output).quantize(np.asarray(node.attrs.get("value", 0.0))))
        strides = _strides(out.shape)
        offset = sum(begin * s for (begin, _), s in zip(node.attrs["pad"], strides, strict=True))
        self._emit(
            node,
            "fill",
            Operand(node.output),
            Operand(node.output),
            {"count": out.size, "value": value},
            outputs=out.size,
        )
        self._copy(node, Operand(node.inputs[0]), Operand(node.output, offset), shape, _strides(shape), strides)

    def _reshape(self, node: Node) -> None:
        if self._quant(node.inputs[0]) == self._quant(node.output):
            self.aliases[node.output] = node.inputs[0]
        else:
            table = luts.unary_table(
                "requantize", {}, self._quant(node.inputs[0]), self._quant(node.output), self.graph.source
            )
            self._table(node, node.inputs[0], node.output, table)

    def _transpose(self, node: Node) -> None:
        shape, out = self.tensors[node.inputs[0]].shape, self.tensors[node.output]
        strides = _strides(shape)
        in_stride = [strides[p] for p in node.attrs["perm"]]
        self._copy(node, Operand(node.inputs[0]), Operand(node.output), out.shape, in_stride, _strides(out.shape))
