"""Proposes gates that select narrow layers, or the smaller of two networks, where the answer will hold."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph, Node, Port, Quant, Tensor
from dhn_kit.hook_programs import ENV, ENV_QUANT
from dhn_kit.hooks import ALWAYS, Bundle, HookSpec, Kind
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack
from dhn_kit.quantize import quantize
from dhn_kit.records import ENVIRONMENT
from dhn_kit.selections import Selection
from dhn_kit.train.heads import Int8, Ints, int8_graph
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.train.skips import advantage, constant_score, fit_gate
from dhn_kit.twin import Twin

#: Shares of the training inputs that may be lost to the other variant at each threshold, cautious first.
LOSSES = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
#: Steps of the environment's unit over which a limit's pull grows to the whole range of the score.
RAMP = 1


def propose(context: Context) -> list[Proposal]:
    """The model selector: reads the pooled input, and runs the smaller network of the pack where it will agree.

    After cascades of networks; here the gate comes first and regresses by how much the full network's class will lead
    in the small network's answer. Nothing where the pack holds one network, or the samples have no inputs.
    """
    return proposals(context, "select", "the smaller network")


def proposals(context: Context, kind: Kind, what: str) -> list[Proposal]:
    """One gate per selection of this kind. ``what`` is selected, for the report."""
    hook = context.hook
    selections = [s for s in context.pack.selections if s.kind == kind]
    return [_proposal(context, s, what) for s in selections] if hook.input is not None else []


def always(pack: Pack, selection: Selection) -> HookSpec:
    """A hook that selects variant 1 whatever the input is."""
    point, name = pack.points[selection.point], f"always {selection.kind} {selection.group}"
    net = constant_score(point)
    return HookSpec(
        point.index, "select", net, [ALWAYS], "value", name=name, kind=selection.kind, group=selection.group
    )


def run_selecting(pack: Pack, selection: Selection, inputs: Int8) -> Int8:
    """Outputs (N, K) when every input runs variant 1."""
    bundle = pack_bundle(pack, Bundle([always(pack, selection)], ["always"]))
    return Twin(pack, bundle).run(inputs).output


def _proposal(context: Context, selection: Selection, what: str) -> Proposal:
    pack, hook = context.pack, context.hook
    assert hook.input is not None
    point = pack.points[selection.point]
    output = run_selecting(pack, selection, hook.input)
    answer, features = hook.answer, hook.features[point.index]
    lead = advantage(output.astype(np.float32), answer)
    real = point.tap_quant.dequantize(features)
    name = f"{selection.kind} at {point.name}"
    net = int8_graph(fit_gate(real, lead), point, features, None, name)
    spec = HookSpec(
        point.index, "select", net, [], "value", name=name, kind=selection.kind, group=selection.group, variant=1
    )
    kept = output.argmax(axis=1) == answer
    score = scores(net, features)
    note = f"{what} alone keeps {kept.mean():.2%} of the answers"
    numbers = {"keeps": float(kept.mean()), "order": order_of(score, kept)}
    return Proposal(spec, grid_of(score, kept), note, numbers)


def scores(net: Graph, features: Int8) -> Ints:
    """The gate's int8 scores (N,) of features (N, F)."""
    port = net.inputs[0].tensor
    q = features.reshape(-1, *net.tensors[port].shape)
    return np.asarray(run_int8(net, q)[net.outputs[0].tensor].reshape(-1), np.int64)


def order_of(score: Ints, kept: np.ndarray) -> float:
    """How often an input whose answer holds scores above one whose does not (area under the ROC curve); 0.5: chance."""
    good, bad = score[kept], score[~kept]
    if not len(good) or not len(bad):
        return 0.5
    difference = good[:, None] - bad[None]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def grid_of(score: Ints, kept: np.ndarray) -> list[int]:
    """Thresholds, cautious first: each costs the share of `LOSSES` of all inputs its answer; with the last all act."""
    lost = np.sort(score[~kept])[::-1]
    allowed = [int(share * len(score)) for share in LOSSES]
    found = [int(lost[n]) + 1 if n < len(lost) else int(score.min()) for n in allowed]
    return sorted({min(t, int(score.max()) + 1) for t in [*found, int(score.min())]}, reverse=True)


def within_limits(spec: HookSpec, limits: Mapping[int, int]) -> HookSpec:
    """The hook, which also acts whenever an environment channel is below its limit, whatever the input is.

    ``limits`` by channel number: {2: 100} selects the smaller network when the time available is less than a full run
    is predicted to take, {0: 20} below 20 % of battery. The pull of a limit is added to the score in the hook's own
    int8 network. Its certificate speaks of runs in which no limit is touched.
    """
    unknown = [c for c in limits if not 0 <= c < ENVIRONMENT]
    if unknown or not limits:
        raise DhnError(f"environment channel {unknown or 'none'} is unknown; they are 0 to {ENVIRONMENT - 1}")
    net = spec.net.copy()
    score = net.tensors[net.outputs[0].tensor]
    assert score.quant is not None
    reach = 255 * score.quant.scale
    pull = _pull(limits, reach)
    net.tensors |= pull.tensors | {"limited": Tensor("limited", score.shape, score.quant)}
    net.nodes += [*pull.nodes, Node("limited", "add", [score.name, "pull"], "limited", {"act_q": (-128, 127)})]
    net.inputs += pull.inputs
    net.outputs = [Port("limited", "limited", net.outputs[0].user_shape)]
    return HookSpec(**{**vars(spec), "net": net})


def _pull(limits: Mapping[int, int], reach: float) -> Graph:
    """(1, 1, 16) environment to one number: 0, or `reach` where a channel is `RAMP` or more below its limit."""
    slope = np.zeros((len(limits), ENVIRONMENT), np.float32)
    slope[np.arange(len(limits)), list(limits)] = -reach / RAMP
    bias = np.array([limit * reach / RAMP for limit in limits.values()], np.float32)
    shapes = {ENV: (1, 1, ENVIRONMENT), "below": (1, 1, len(limits)), "pull": (1, 1, 1)}
    graph = Graph(
        "limits",
        {name: Tensor(name, shape) for name, shape in shapes.items()},
        [
            Node("below", "fully_connected", [ENV], "below", {"weight": slope, "bias": bias, "act": (0.0, reach)}),
            Node(
                "pull",
                "fully_connected",
                ["below"],
                "pull",
                {
                    "weight": np.ones((1, len(limits)), np.float32),
                    "bias": np.zeros(1, np.float32),
                    "act": (0.0, reach),
                },
            ),
        ],
        [Port(ENV, ENV, (ENVIRONMENT,))],
        [Port("pull", "pull", (1,))],
    )
    steps = Quant(float(np.float32(reach / 255)), -128)
    any_environment = np.zeros((1, ENVIRONMENT), np.float32)
    return quantize(graph, any_environment, fixed={ENV: ENV_QUANT, "below": steps, "pull": steps})
