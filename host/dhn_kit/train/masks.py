"""Proposes masks: gates that predict how much the answer would suffer without a group of channels or a band of rows."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.bundle import pack_bundle
from dhn_kit.hooks import Bundle, HookPoint, HookSpec, Kind
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack
from dhn_kit.train.heads import Floats, Head, Int8, int8_graph
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.train.skips import advantage, fit_gate
from dhn_kit.twin import Twin
from dhn_kit.variants import Gates

#: Inputs on which each gate is shut alone: the twin runs all of them once per gate.
PROBED = 400
#: Shares of all gates that thresholds of the grid shut, cautious first.
SHUT = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)


def proposals(context: Context, kind: Kind) -> list[Proposal]:
    """One mask for each stretch of layers that the pack can thin out in this way; none without inputs.

    The importance of a gate is what shutting it alone takes from the lead of the full network's class: a first-order
    effect, measured on the twin. Scores regress it on the pooled feature, and gates open where it is large. After
    Gao et al., "Dynamic Channel Pruning: Feature Boosting and Suppression" (ICLR 2019), where saliencies are trained
    with the network; here the network stays as it is.
    """
    if context.hook.input is None:
        return []
    return [_proposal(context, kind, g) for g in context.pack.gates if g.kind == kind and _point(context.pack, g)]


def _point(pack: Pack, gates: Gates) -> HookPoint | None:
    """The last hook point before the gated layers."""
    before = [p for p in pack.points if p.node <= gates.node and not p.final]
    return before[-1] if before else None


def mask_hook(pack: Pack, gates: Gates, head: Head, features: Int8, name: str) -> HookSpec:
    """A mask without thresholds whose gates open by the head's scores."""
    point = _point(pack, gates)
    assert point is not None
    net = int8_graph(head, point, features, None, name)
    kind: Kind = "spatial" if gates.kind == "spatial" else "channel"
    groups = gates.kind == "spatial"
    return HookSpec(point.index, "mask", net, [], "value", name=name, kind=kind, group=gates.group, mask_groups=groups)


def shut_alone(pack: Pack, gates: Gates, number: int, inputs: Int8) -> Int8:
    """Outputs (N, K) with one gate shut whatever the input is."""
    point = _point(pack, gates)
    assert point is not None
    size = int(np.prod(point.feature_shape))
    bias = np.where(np.arange(gates.count) == number, -1.0, 1.0).astype(np.float32)
    head = Head([(np.zeros((size, gates.count), np.float32), bias)])
    hook = mask_hook(pack, gates, head, np.zeros((4, size), np.int8), f"without gate {number}")
    hook.thresholds = [0]
    return Twin(pack, pack_bundle(pack, Bundle([hook], ["shut"]))).run(inputs).output


def importance(pack: Pack, gates: Gates, inputs: Int8, output: Int8) -> Floats:
    """(N, gates): by how much the lead of the full network's class falls when a gate is shut alone, in real numbers."""
    quant = pack.tensors[pack.outputs[0].tensor].quant
    assert quant is not None
    answer = np.asarray(output.argmax(axis=1), np.int64)
    before = advantage(quant.dequantize(output), answer)
    runs = [shut_alone(pack, gates, i, inputs) for i in range(gates.count)]
    return np.stack([before - advantage(quant.dequantize(run), answer) for run in runs], axis=1)


def _proposal(context: Context, kind: Kind, gates: Gates) -> Proposal:
    pack, hook, point = context.pack, context.hook.first(PROBED), _point(context.pack, gates)
    assert point is not None and hook.input is not None
    loss = importance(pack, gates, hook.input, hook.output)
    features = hook.features[point.index]
    x = point.tap_quant.dequantize(features)
    columns = [fit_gate(x, loss[:, i]).layers[0] for i in range(gates.count)]
    head = Head([(np.concatenate([w for w, _ in columns], axis=1), np.concatenate([b for _, b in columns]))])
    spec = mask_hook(pack, gates, head, features, f"{kind} gates at {point.name}")
    shape = (len(features), *point.feature_shape)
    scores = run_int8(spec.net, features.reshape(shape))[spec.net.outputs[0].tensor]
    grid = sorted({int(np.quantile(scores, share)) + 1 for share in SHUT})
    numbers = {"gates": float(gates.count), "largest share of a gate's loss": float(loss.mean(axis=0).max())}
    return Proposal(spec, grid, f"{gates.count} gates, predicted on {len(features)} inputs", numbers)
