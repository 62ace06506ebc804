"""A program whose first operators run in bands gives the same answers in less RAM."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.hookpoints import find_points
from dhn_kit.int_reference import run_int8
from dhn_kit.lower import lower
from dhn_kit.pack import Pack, _Made, _packed, pack, pack_within
from dhn_kit.patch import _lengths, _Region
from dhn_kit.poison import poisoned
from dhn_kit.strategy import Policy
from dhn_kit.tflite_import import import_tflite
from dhn_kit.twin import Twin
from nets import Net, residual_net


def mobile_net() -> tuple[Graph, Net]:
    """A stem and depthwise-pointwise pairs with strides, at first wide and thin, then narrow and deep."""
    net = Net((25, 20, 3), 4)
    x = net.conv("x", 8)
    for channels, stride in ((8, 1), (16, 2), (16, 2), (32, 2)):
        x = net.conv(net.depthwise(x, stride), channels, 1)
    net.fc(net.mean(x), 5)
    return net.done(), net


def pooled_net() -> tuple[Graph, Net]:
    """Pools, an activation by table and an addition between convolutions of several kernel sizes."""
    net = Net((17, 12, 2), 9)
    x = net.conv("x", 6, 5)
    x = net.node("max_pool", [x], (9, 6, 6), kernel=(3, 3), stride=(2, 2), pad=(1, 1, 1, 1), act_q=(-128, 127))
    x = net.node("unary", [x], (9, 6, 6), fn="relu")
    y = net.conv(x, 6, 1)
    x = net.add(net.conv(net.conv(x, 4), 6), y)
    x = net.node("avg_pool", [x], (8, 5, 6), kernel=(2, 2), stride=(1, 1), pad=(0, 0, 0, 0), act_q=(-128, 127))
    net.fc(net.mean(net.conv(x, 3)), 4)
    return net.done(), net


NETS: dict[str, Callable[[], tuple[Graph, Net]]] = {
    "mobile": mobile_net,
    "pooled": pooled_net,
    "residual": lambda: residual_net(2),
}


def same_answers(graph: Graph, net: Net, main: Pack) -> None:
    x = net.inputs(4)
    expected = run_int8(graph, x)[graph.outputs[0].tensor].reshape(4, -1)
    assert (Twin(main).run(x).output == expected).all()
    assert (Twin(poisoned(main)).run(x).output == expected).all()


@pytest.mark.parametrize("arch", ["ref", "armv7em"])
@pytest.mark.parametrize("bands", [2, 3, 5])
@pytest.mark.parametrize("name", NETS)
def test_every_length_in_every_number_of_bands_keeps_the_answers(name: str, bands: int, arch: str) -> None:
    graph, net = NETS[name]()
    lowered, points = lower(graph), find_points(graph)
    lengths = list(_lengths(lowered))
    assert len(lengths) >= 2
    for count in lengths:
        region = _Region(lowered, count)
        if region.rows >= bands:
            patched = region.patched(points, bands)
            same_answers(graph, net, _packed(patched.lowered, patched.points, _Made(arch)))


def test_bands_save_ram_and_say_what_they_compute_twice() -> None:
    graph, net = mobile_net()
    plain, banded = pack(graph), pack(graph, bands=2)
    assert banded.arena_bytes < 0.85 * plain.arena_bytes
    facts = banded.extra["patch"]
    assert facts["bands"] == 2 and facts["macs_before"] < facts["macs_after"] < 1.5 * facts["macs_before"]
    assert facts["arena_before"] == plain.arena_bytes
    assert facts["macs_after"] == sum(o.macs for o in banded.ops if o.op != "mean")
    same_answers(graph, net, banded)


def test_bands_share_their_constants_in_the_pack_and_in_the_flash_budget() -> None:
    graph, _ = mobile_net()
    plain = pack(graph)
    assert plain.lowered is not None
    patched = _Region(plain.lowered, 7).patched(plain.points, 2)
    banded = _packed(patched.lowered, patched.points, _Made("ref"))
    assert len(banded.data) - len(plain.data) < 0.5 * sum(o.flash for o in plain.ops)
    least = sum(o.flash for o in banded.ops)
    assert least <= 1.05 * sum(o.flash for o in plain.ops)
    _packed(patched.lowered, patched.points, _Made("ref", policy=Policy(flash_budget=least + 64 * len(banded.ops))))


def test_hook_points_within_the_bands_go_and_the_others_still_work() -> None:
    graph, net = mobile_net()
    plain, banded = pack(graph), pack(graph, bands=2)
    names = [p.name for p in banded.points]
    assert names == [p.name for p in plain.points if p.name in names] and 0 < len(names) < len(plain.points)
    assert [p.index for p in banded.points] == list(range(len(names)))
    x = net.inputs(5)
    one, other = Twin(plain).run(x, features=True), Twin(banded).run(x, features=True)
    for k, point in enumerate(banded.points):
        was = next(i for i, p in enumerate(plain.points) if p.name == point.name)
        assert (other.features[k] == one.features[was]).all()


def test_the_result_takes_over_rows_of_the_input_that_no_later_band_reads() -> None:
    net = Net((24, 24, 12), 3)
    x = net.conv(net.conv(net.conv("x", 24), 24), 6, 3, 2)
    graph = net.done(net.fc(net.mean(x), 3))
    main = pack(graph, bands=8)
    assert main.extra["patch"]["ops"] == 3
    (source, size), target = (main.offsets["x"], 24 * 24 * 12), main.offsets[x]
    assert max(source, target) < min(source + size, target + 12 * 12 * 6)
    same_answers(graph, net, main)


def test_an_input_that_is_read_after_the_bands_keeps_its_bytes() -> None:
    net = Net((24, 24, 12), 3)
    x = net.conv(net.conv(net.conv("x", 24), 24), 12)
    graph = net.done(net.fc(net.mean(net.add(x, "x")), 3))
    lowered, points = lower(graph), find_points(graph)
    patched = _Region(lowered, 3).patched(points, 4)
    assert patched.lowered.overlaps == {}
    same_answers(graph, net, _packed(patched.lowered, patched.points, _Made("ref")))
    # The addition itself in bands reads the input where it writes.
    patched = _Region(lowered, 4).patched(points, 4)
    assert patched.lowered.overlaps == {}
    same_answers(graph, net, _packed(patched.lowered, patched.points, _Made("ref")))


def test_bands_that_save_nothing_are_refused() -> None:
    net = Net((4, 4, 64))
    graph = net.done(net.fc(net.mean(net.conv("x", 2, 1)), 3))
    with pytest.raises(DhnError, match="needs no less RAM in 2 bands"):
        pack(graph, bands=2)


@pytest.mark.slow
def test_a_pack_that_does_not_fit_gets_the_fewest_bands_that_help() -> None:
    graph, _ = mobile_net()
    plain = pack(graph)
    assert "patch" not in pack_within(graph, "ref", plain.arena_bytes).extra
    two = pack(graph, bands=2).arena_bytes
    assert pack_within(graph, "ref", two).extra["patch"]["bands"] == 2
    six = pack(graph, bands=6).arena_bytes
    assert six < two and pack_within(graph, "ref", six).extra["patch"]["bands"] == 6
    # Nothing is enough: the smallest.
    assert pack_within(graph, "ref", 16).arena_bytes <= six


@pytest.mark.reference
@pytest.mark.parametrize("bands", [2, 4, 8])
def test_image_classification_in_bands_answers_as_before(bands: int, reference_dir: Path) -> None:
    graph = import_tflite(reference_dir / "models" / "ic_resnet8_int8.tflite")
    x = np.random.default_rng(bands).integers(-128, 128, (8, 32, 32, 3)).astype(np.int8)
    plain, banded = pack(graph, "armv7em"), pack(graph, "armv7em", bands=bands)
    assert banded.arena_bytes < 0.92 * plain.arena_bytes
    assert (Twin(banded).run(x).output == Twin(plain).run(x).output).all()
