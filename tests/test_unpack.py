"""What unpacking finds in a pack is what packing was given."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from dhn_kit import records
from dhn_kit.errors import DhnError
from dhn_kit.pack import pack
from dhn_kit.unpack import compare, unpack
from nets import residual_net


def test_every_instruction_names_its_kernel_and_the_places_of_its_tensors() -> None:
    graph, _ = residual_net()
    main = pack(graph)
    program = unpack(main.data).program
    assert [i.fields["kind"] for i in program[:-1]] == [
        records.INSTR_RUN if kind == "op" else records.INSTR_POINT for kind, _ in main.steps
    ]
    runs = [i for i in program if i.fields["kind"] == records.INSTR_RUN]
    assert [i.kernel for i in runs] == [o.kernel for o in main.ops]
    for run, node in zip(runs, graph.nodes, strict=True):
        assert run.fields["in0"] == main.offsets[node.inputs[0]], node.name
        assert run.fields["out"] == main.offsets[node.output], node.name


def test_weights_and_biases_are_in_the_pack_as_they_were() -> None:
    graph, _ = residual_net()
    back = unpack(pack(graph).data)
    convs = [n for n in graph.nodes if n.op == "conv2d"]
    runs = [i for i in back.program if i.kernel == "dhn_conv_s8__ref"]
    for node, run in zip(convs, runs, strict=True):
        assert run.params is not None
        weight, bias = node.attrs["weight"], node.attrs["bias"]
        assert back.constant(run.params["weight"], weight.size) == weight.tobytes()
        assert back.constant(run.params["bias"], 4 * bias.size) == np.asarray(bias, "<i4").tobytes()


def test_points_and_ports_are_those_of_the_pack() -> None:
    graph, _ = residual_net()
    main = pack(graph)
    back = unpack(main.data)
    assert [p["tap"] for p in back.points] == [main.offsets[p.tap] for p in main.points]
    starts = [i.offset for i in back.program]
    assert all(p["skip_to"] in starts for p in back.points if p["skip_to"])
    assert [t["bytes"] for t in back.io] == [8 * 8 * 3, 5]


def test_equal_packs_have_no_differences_and_a_changed_one_names_them() -> None:
    graph, _ = residual_net()
    one = unpack(pack(graph).data)
    assert compare(one, unpack(pack(residual_net()[0]).data)) == []
    changed = graph.copy()
    changed.nodes[0].attrs["act_q"] = (-100, 127)
    # Instruction 0 is the hook point at the input.
    assert compare(one, unpack(pack(changed).data)) == ["instruction 1: act_min of dhn_conv_s8__ref differ"]
    other = residual_net()[0]
    other.nodes[0].attrs["weight"] = -other.nodes[0].attrs["weight"]
    assert compare(one, unpack(pack(other).data)) == ["constants differ"]


def test_damaged_bytes_are_refused() -> None:
    data = bytearray(pack(residual_net()[0]).data)
    data[300] ^= 1
    with pytest.raises(DhnError, match="corrupted"):
        unpack(bytes(data))
