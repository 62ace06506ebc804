"""Tensors share bytes where the kernels' order of access allows it, and no answer changes."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time

import pytest

from dhn_kit.bundle import pack_bundle
from dhn_kit.graph import Graph, Quant
from dhn_kit.hookpoints import find_points
from dhn_kit.hooks import ALWAYS, KEEP_BYTES, Bundle, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.kernels import list_architectures
from dhn_kit.lower import lower
from dhn_kit.memory import arena_bytes, scratch_bytes, scratch_name
from dhn_kit.pack import Pack, pack
from dhn_kit.poison import poisoned
from dhn_kit.twin import Twin
from nets import Net, residual_net


def place_of(main: Pack, tensor: str) -> tuple[int, int]:
    return main.offsets[tensor], main.offsets[tensor] + main.tensors[tensor].size


def check(graph: Graph, net: Net) -> Pack:
    """Packs, and compares the twin with the integer reference, with garbage in dead bytes and without."""
    main, x = pack(graph), net.inputs(6)
    expected = run_int8(graph, x)
    for packed in (main, poisoned(main)):
        found = Twin(packed).run(x)
        for port, output in zip(graph.outputs, found.outputs, strict=True):
            assert (output == expected[port.tensor].reshape(6, -1)).all()
    return main


def test_a_chain_of_convolutions_takes_little_more_than_one_feature_map() -> None:
    net = Net((16, 16, 8))
    x = "x"
    for _ in range(4):
        x = net.conv(x, 8)
    main = check(net.done(net.fc(net.mean(x), 4)), net)
    row = 16 * 8
    # Three results trail their inputs by the two rows that the reference's convolution needs.
    assert 16 * row + 3 * 2 * row <= main.arena_bytes <= 16 * row + 4 * 2 * row + 256
    first, second = place_of(main, "conv2d0"), place_of(main, "conv2d1")
    assert max(first[0], second[0]) < min(first[1], second[1])


@pytest.mark.parametrize("seed", range(8))
def test_random_chains_with_strides_and_growing_channels_keep_their_answers(seed: int) -> None:
    net = Net((9 + seed, 7, 3), seed)
    x = "x"
    for _ in range(4):
        channels, kernel = int(net.rng.integers(1, 9)), int(net.rng.choice([1, 3, 5]))
        x = net.conv(x, channels, kernel, int(net.rng.integers(1, 3)))
    check(net.done(net.fc(net.mean(x), 4)), net)


def test_the_skips_source_and_destination_never_overlap_in_part() -> None:
    main = pack(residual_net()[0])
    for point in main.points:
        if point.skip is not None:
            source, target = place_of(main, point.skip[0]), place_of(main, point.skip[1])
            assert source == target or max(source[0], target[0]) >= min(source[1], target[1])


def test_a_repairs_scratch_lies_apart_from_what_it_writes() -> None:
    main = pack(residual_net()[0])
    for point in main.points:
        if point.skip is not None:
            low, high = place_of(main, point.skip[1])
            start = main.offsets[scratch_name(point)]
            size = main.lifetimes[scratch_name(point)][2]
            assert max(low, start) >= min(high, start + size)


def test_an_output_keeps_its_bytes_though_the_last_op_could_work_in_place() -> None:
    net = Net((4, 4, 8))
    early = net.conv("x", 8)
    late = net.node("unary", [early], (4, 4, 8), fn="relu")
    main = check(net.done(early, late), net)
    assert main.offsets[early] != main.offsets[late]


def test_the_result_of_an_addition_goes_to_the_side_that_saves_most() -> None:
    """In the first side's place the sum would keep the long-lived tensor's neighbours from sliding together."""
    net = Net((8, 8, 8))
    a = net.conv("x", 8)
    b = net.conv(a, 8)
    c = net.add(b, a)
    main = check(net.done(net.fc(net.mean(net.conv(c, 4)), 3)), net)
    assert main.offsets[c] in (main.offsets[a], main.offsets[b])
    assert main.arena_bytes <= 2 * 512 + 2 * 64 + 1024


def test_the_quick_plan_is_a_bound_on_the_searched_one_and_takes_milliseconds() -> None:
    net = Net((16, 16, 8))
    x = net.conv("x", 8)
    for _ in range(15):
        x = net.block(x, 8)
    graph = net.done(net.fc(net.mean(x), 5))
    points, lowered = find_points(graph), lower(graph)
    start = time.process_time()
    size, bound = arena_bytes(lowered, points)
    assert time.process_time() - start < 0.5
    main = pack(graph, points=points)
    assert bound <= main.arena_lower_bound <= main.arena_bytes <= size


def test_room_for_faster_hooks_never_raises_the_arena() -> None:
    """A network of small layers with a large output: its hook point would need more than all layers."""
    net = Net((1, 1, 256))
    x = net.fc(net.fc("x", 64), 64)
    graph = net.done(net.fc(x, 256))
    main, without = pack(graph), pack(graph, hooks=False)
    classes = 256
    least = scratch_bytes(main.points[0], classes, roomy=False)
    assert main.lifetimes[scratch_name(main.points[0])][2] == least
    assert main.arena_bytes == max(without.arena_bytes, 256 + least) + KEEP_BYTES


def test_a_hook_gets_all_that_nobody_else_needs_at_its_point() -> None:
    """At the input nothing but the input is alive: a hook there has the rest of the arena."""
    main = pack(residual_net()[0])
    assert scratch_bytes(main.points[0], 5) < main.lifetimes[scratch_name(main.points[0])][2]
    for number, point in enumerate(main.points):
        step = main.steps.index(("point", number))
        start, size = main.offsets[scratch_name(point)], main.lifetimes[scratch_name(point)][2]
        assert size >= scratch_bytes(point, 5, roomy=False) and start + size <= main.arena_bytes
        others = [
            (main.offsets[name], count)
            for name, (first, last, count) in main.lifetimes.items()
            if name != scratch_name(point) and first <= step < last
        ]
        if point.skip is not None:  # the repair writes there while it reads scratch
            others.append((main.offsets[point.skip[1]], main.tensors[point.skip[1]].size))
        assert all(start + size <= at or at + count <= start for at, count in others)


@pytest.mark.parametrize("arch", list_architectures())
def test_hooks_fit_the_scratch_that_is_left_where_ram_is_short(arch: str) -> None:
    """The first program leaves room for the second's answer, whatever scratch its kernels would like."""
    net = Net((1, 1, 256))
    end = Quant(1 / 256, -128)
    graph = net.done(net.node("softmax", [net.fc(net.fc("x", 64), 128)], (1, 1, 128), end))
    main, scores = pack(graph, arch), Quant(0.1, 3)
    head = Net((1, 1, 256), 1)
    head.graph.tensors["x"].quant = main.points[0].tap_quant
    head.fc(head.fc("x", 64), 128, scores)
    answer = Net((1, 1, 128), 2)
    answer.graph.tensors["x"].quant = scores
    answer.node("softmax", ["x"], (1, 1, 128), end)
    hook = HookSpec(0, "exit", head.done(), [ALWAYS], answer=answer.done())
    x = net.inputs(5)
    found = Twin(main, pack_bundle(main, Bundle([hook], ["all"]))).run(x)
    middle = run_int8(head.graph, x)[head.graph.outputs[0].tensor]
    assert (found.exit_hook == 0).all()
    assert (found.output == run_int8(answer.graph, middle)[answer.graph.outputs[0].tensor].reshape(5, -1)).all()
