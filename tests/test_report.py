"""The report: it shows what it was given, needs nothing from outside, and its figures are counted right."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.bundle import pack_bundle
from dhn_kit.graph import Port
from dhn_kit.hooks import ALWAYS, NEVER, SILENT, Bundle, Certificate, HookSpec
from dhn_kit.pack import Pack, pack
from dhn_kit.report import MemoryBlock, ReportData, figures, gather, memory_blocks, plots, write_report
from dhn_kit.report.report import render
from dhn_kit.train import Split, heads, split_from_inputs
from dhn_kit.train.baselines import Ablation, Comparison, coin, forced
from dhn_kit.train.certify import measured_cost, predicted_costs
from dhn_kit.twin import Twin
from nets import Net

Gathered = tuple[Pack, Bundle, Split, ReportData]

CERTIFICATE = Certificate(0, "consistency", 0.01, 0.05, 1200, 3, 0.0064, "learn-then-test", "cd" * 32)
ERROR = Certificate(
    0, "error", 0.031, 0.05, 1180, 20, 0.031, "Clopper-Pearson, Bonferroni over 9 candidates", "cd" * 32, 9, 14
)


@pytest.fixture
def data() -> ReportData:
    n = np.arange(100)
    label, full = n % 10, np.where(n < 2, 5, n % 10)
    gated = np.where(n > 96, 0, full)
    names = ["exit at input", "exit at block1"]
    point = figures(
        "risk 1%", np.where(n < 60, 100, 1000), gated, full, label, np.where(n < 60, 0, -1), names, None, CERTIFICATE
    )
    return ReportData(
        model="a <net>",
        board="qemu-m4",
        counting="executed on the emulated core",
        inputs=100,
        full=figures("full network", np.full(100, 1000), full, full, label),
        points=[point],
        comparisons=[
            Comparison("full network", "full", 1000, 1.0, 0.99),
            Comparison("always exit at input", "static", 100, 0.8, 0.79),
            Comparison("always exit at block1", "static", 400, 0.9, 0.89),
            Comparison("random gate", "random", 460, 0.85, 0.84),
            Comparison("oracle", "oracle", 150, 1.0, 0.99),
        ],
        certificates=[CERTIFICATE, ERROR],
        ablation=[
            Ablation(
                "exit", 2, Comparison("a", "ablation", 500, 0.97, 0.95), Comparison("b", "ablation", 1000, 1, 0.98)
            ),
            Ablation(
                "skip", 1, Comparison("c", "ablation", 930, 0.99, 0.97), Comparison("d", "ablation", 490, 1, 0.96)
            ),
        ],
        layers=[("conv1", "conv2d", 700.0), ("fc", "fully_connected", 300.0)],
        arena_bytes=4096,
        arena_lower_bound=4000,
        flash_bytes=81980,
        hook_bytes=1234,
        memory=[MemoryBlock("x", 0, 2, 0, 2000), MemoryBlock("hooks.scratch0", 1, 2, 2000, 300)],
        sqnr=[("conv1", "conv2d", 38.2)],
        agreement={"same answer as float": 0.998},
        dropped=[("skip at block1", "saves nothing & costs 0.2 %")],
        refused={"0.10%": "1200 calibration samples, at least 2995 are needed"},
        facts={"samples lost": "0"},
    )


def text_of(html: str) -> str:
    class Text(HTMLParser):
        found = ""

        def handle_data(self, chunk: str) -> None:
            self.found += chunk + " "

    parser = Text()
    parser.feed(html)
    return re.sub(r"\s+", " ", parser.found)


def test_figures_count_cost_accuracy_risk_and_exits(data: ReportData) -> None:
    point = data.points[0]
    assert (point.mean, point.median, point.worst) == (460, 100, 1000)
    # Rows 97, 98 and 99 answer 0 instead of 7, 8 and 9; rows 0 and 1 answer 5 as the full network does.
    assert point.risk == pytest.approx(0.03) and point.accuracy == pytest.approx(0.95)
    assert point.exits == {"exit at input": 0.6, "end": 0.4}


def test_a_hook_that_acts_without_leaving_counts_as_a_skip() -> None:
    acted = np.array([[True, False], [False, True], [True, True], [False, False]])
    got = figures("p", np.ones(4), np.zeros(4), np.zeros(4), None, [-1, 1, 1, -1], ["skip", "exit"], acted)
    assert got.skips == {"skip": 0.5} and got.exits == {"exit": 0.5, "end": 0.5}


@pytest.mark.parametrize(
    "fact",
    ["0.46×", "81,980", "1,234", "4,096", "lower bound 4,000", "95.0 %", "0.64 %", "cdcdcdcdcdcdcdcd",
     "saves nothing & costs", "at least 2995 are needed", "executed on the emulated core",
     "skip 1 930 0.93× 97.00 % 490 0.49× 96.00 %", "all together 3 460",
     "risk 1% error 3.10 % 5 % 1,180 20 3.10 % 0.51 %",
     "Error: Clopper-Pearson, Bonferroni over 9 candidates", "same answer as float: 99.80 %", "samples lost",
     "always exit at block1 ) repeats 90.0 %", "random gate", "oracle"],
)  # fmt: skip
def test_the_page_says(data: ReportData, fact: str) -> None:
    squeezed = text_of(render(data)).replace(" ", "")
    assert fact.replace(" ", "") in squeezed


def test_the_page_needs_nothing_from_outside(data: ReportData) -> None:
    page = render(data)
    # Namespaces are names, nobody fetches them.
    links = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r'(src|href)="(?!#)', links)
    assert "<script" not in page and "@import" not in page and "url(h" not in page
    assert page.count("<svg") == 5


def test_names_are_escaped(data: ReportData) -> None:
    assert "a &lt;net&gt;" in render(data) and "a <net>" not in render(data)


def test_element_names_of_the_plots_do_not_collide(data: ReportData) -> None:
    page = render(data)
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names)) > 20
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(names)


def test_the_same_data_give_the_same_page(data: ReportData) -> None:
    assert render(data) == render(data)


def test_a_report_without_hooks_still_renders(data: ReportData) -> None:
    bare = ReportData("net", "posix", "predicted", 10, replace(data.full, accuracy=None))
    assert "Before and after" in render(bare) and "<svg" not in render(bare)


def test_writing_leaves_no_partial_file(data: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", data)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.fixture(scope="module")
def gathered() -> Gathered:
    """A random network with an exit that acts always, never, or for the surer half."""
    net = Net((12, 12, 2), seed=4)
    x = net.conv("x", 8)
    x = net.block(x, 8)
    x = net.block(x, 16, 2)
    x = net.node("mean", [x], (1, 1, 16))
    out = net.node("fully_connected", [x], (1, 1, 5), act_q=(-128, 127), **net.weights((5, 16), 5, 16))
    net.graph.outputs = [Port(out, "y", (5,))]
    packed = pack(net.graph)
    rng = np.random.default_rng(0)
    split = split_from_inputs(packed, rng.integers(-128, 128, (60, 12, 12, 2)).astype(np.int8), rng.integers(0, 5, 60))
    point = packed.points[-2]
    size = int(np.prod(point.feature_shape))
    head = heads.Head([(rng.normal(0, 0.3, (size, 5)).astype(np.float32), np.zeros(5, np.float32))])
    net8 = heads.int8_graph(head, point, split.features[point.index], packed.tensors[out].quant, "exit")
    bundle = Bundle([HookSpec(point.index, "exit", net8, [ALWAYS, NEVER, 20], name="exit")], ["all", "none", "some"])
    bundle.report = {"dropped": [{"name": "h", "reason": "r"}], "refused": {"0.01": "why"}}
    return packed, bundle, split, gather(packed, bundle, split, predicted_costs(packed), "posix")


def test_gathered_figures_agree_with_the_static_exit_and_the_full_network(gathered: Gathered) -> None:
    _, _, _, data = gathered
    always, never, some = data.points
    static = next(c for c in data.comparisons if c.kind == "static")
    assert always.mean == pytest.approx(static.cost) and always.risk == pytest.approx(1 - static.agreement)
    assert (never.mean, never.risk, never.accuracy) == (data.full.mean, 0.0, data.full.accuracy)
    assert always.exits == {"exit": 1.0, "end": 0.0} and never.exits == {"end": 1.0}
    assert 0 < some.exits["exit"] < 1 and always.mean < some.mean < never.mean + 1e5


def test_the_oracle_always_agrees_and_costs_no_more_than_gate_and_full_together(gathered: Gathered) -> None:
    _, _, _, data = gathered
    oracle = next(c for c in data.comparisons if c.kind == "oracle")
    assert oracle.agreement == 1.0 and oracle.cost <= data.full.mean + data.points[0].mean


def test_a_random_gate_of_equal_cost_is_a_coin_between_the_two_best_static_choices(gathered: Gathered) -> None:
    _, _, _, data = gathered
    static, full = (next(c for c in data.comparisons if c.kind == kind) for kind in ("static", "full"))
    gate = next(c for c in data.comparisons if c.name == "random gate at some")
    share = (full.cost - gate.cost) / (full.cost - static.cost)
    assert gate.cost == data.points[2].mean and 0 < share < 1
    if static.merit < full.merit:
        assert gate.agreement == pytest.approx(1 - share * (1 - static.agreement))


def choice(cost: float, agreement: float) -> Comparison:
    return Comparison("c", "static", cost, agreement, None)


def test_a_coin_takes_the_best_pair_and_never_pays_more_than_it_may() -> None:
    choices = [choice(100, 1.0), choice(20, 0.9), choice(60, 0.91), choice(10, 0.5)]
    half = coin(choices, 60, "coin")
    assert half is not None and half.cost == 60 and half.agreement == pytest.approx(0.95)
    rich, poor = coin(choices, 140, "coin"), coin(choices, 5, "coin")
    assert rich is not None and (rich.cost, rich.agreement) == (100, 1.0) and poor is None


def test_silenced_hooks_still_run_where_another_reads_what_they_keep() -> None:
    hooks = [
        {"keeps": ["a"], "reads": []},
        {"keeps": ["b"], "reads": ["a"]},
        {"keeps": ["c"], "reads": []},
        {"keeps": [], "reads": ["b"]},
    ]
    assert forced(hooks, {3: 7}) == [SILENT, SILENT, NEVER, 7]
    assert forced(hooks, {2: 5}) == [NEVER, NEVER, 5, NEVER]
    assert forced(hooks, {1: 5}) == [SILENT, 5, NEVER, NEVER]


def test_ablation_of_the_only_kind_is_everything_or_nothing(gathered: Gathered) -> None:
    _, _, _, data = gathered
    (only,) = data.ablation
    assert (only.kind, only.hooks) == ("exit", 1)
    assert only.alone.cost == pytest.approx(data.points[data.chosen].mean)
    assert (only.without.cost, only.without.agreement) == (data.full.mean, 1.0)


def test_costs_are_those_of_the_operators_that_ran(gathered: Gathered) -> None:
    packed, bundle, split, _ = gathered
    costs = predicted_costs(packed)
    assert split.input is not None
    result = Twin(packed, pack_bundle(packed, bundle)).run(split.input, point=2)
    (spec,) = bundle.hooks
    point = packed.points[spec.point]
    before = [o.node < point.node for o in packed.ops]
    left = result.exit_hook == 0
    assert result.ran[~left].all() and (result.ran[left] == before).all() and 0 < left.sum() < len(left)
    decide, act = costs.hook(spec, point)
    expected = np.where(left, costs.before(point.node) + act, costs.full) + decide
    np.testing.assert_allclose(measured_cost(costs.ops, [(decide, act)], result), expected, rtol=1e-3)


def test_gathered_memory_fits_the_arena(gathered: Gathered) -> None:
    packed, _, _, data = gathered
    assert data.memory == memory_blocks(packed)
    assert max(b.offset + b.size for b in data.memory) <= packed.arena_bytes == data.arena_bytes
    assert data.dropped == [("h", "r")] and data.refused == {"1.00%": "why"}


def test_the_memory_picture_tells_tensors_kernels_scratch_and_hooks_apart(data: ReportData) -> None:
    blocks = [MemoryBlock("x", 0, 2, 0, 900), MemoryBlock("y", 1, 3, 100, 900)]
    plain = plots.memory(replace(data, memory=blocks))
    assert plain.count("<pattern") == 0
    scratch = [MemoryBlock("op.scratch4", 1, 2, 1000, 300), MemoryBlock("hooks.scratch0", 2, 3, 1000, 300)]
    assert plots.memory(replace(data, memory=blocks + scratch)).count("<pattern") == 2
    assert plots.memory(replace(data, memory=[])) == ""


def test_a_static_choice_far_below_does_not_flatten_the_picture(data: ReportData) -> None:
    near = [Comparison("full", "full", 100, 1.0, 0.98), Comparison("exit", "static", 40, 0.9, 0.97)]
    far = Comparison("skip", "static", 80, 0.1, 0.12)
    calm = replace(data, comparisons=near)
    bottom = plots._bottom(calm, [97.5])
    assert bottom == pytest.approx(96.5) == plots._bottom(replace(data, comparisons=[*near, far]), [97.5])
    assert plots.tradeoff(replace(data, comparisons=[*near, far])) != plots.tradeoff(calm)


def test_kinds_that_are_silent_at_the_point_are_named(gathered: Gathered, data: ReportData) -> None:
    packed, bundle, split, _ = gathered
    silent = replace(bundle.hooks[0], thresholds=[NEVER] * len(bundle.hooks[0].thresholds), name="s", kind="skip")
    both = replace(bundle, hooks=[*bundle.hooks, silent])
    assert gather(packed, both, split, predicted_costs(packed), "b").silent == ["skip"]
    assert "Silent at this operating point: skip." in render(replace(data, silent=["skip"]))
