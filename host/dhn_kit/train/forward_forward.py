"""Gradients of a small head's local losses: no layer hears from the one above it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.train.descent import Floats, Gradients, Rows, softmax

#: A local loss says less about the answer than the whole chain does: three times the steps make up for it.
STEPS_FACTOR = 3


def gradients(x: Floats, target: Floats, weight: Floats) -> Gradients:
    """For `descent.minimise`; the same arguments and parameters as `back_propagation.gradients`.

    Hinton 2022, "The Forward-Forward Algorithm: Some preliminary investigations": a layer raises its *goodness*, the
    mean square of its activities, on positive data and lowers it on negative data. Here each class owns a group of the
    hidden units, whose goodness is positive for inputs of the class and negative for all others; the groups compete by
    a softmax (Papachristodoulou et al. 2024, "Convolutional channel-wise competitive learning for the
    Forward-Forward algorithm"), so that one pass per input serves all classes and distilled targets fit in. The
    last layer is a classifier that reads the hidden units and does not reach back into them.
    """
    classes = target.shape[1]

    def of(parameters: list[Floats], rows: Rows) -> list[Floats]:
        batch, wanted = x[rows], target[rows]
        share = weight[rows, None] / np.float32(len(rows))
        hidden, local = batch, []
        if len(parameters) == 4:
            hidden = np.maximum(batch @ parameters[0] + parameters[1], 0)
            group = groups(hidden.shape[1], classes)
            g = (softmax(goodness(hidden, group)) - wanted) * share
            gh = 2 * hidden * (g @ group.T)
            local = [batch.T @ gh, gh.sum(axis=0)]
        g = (softmax(hidden @ parameters[-2] + parameters[-1]) - wanted) * share
        return [*local, hidden.T @ g, g.sum(axis=0)]

    return of


def groups(hidden: int, classes: int) -> Floats:
    """(hidden, classes): which class a unit belongs to, in turn. Columns sum to 1, to 0 for classes without a unit."""
    member = np.eye(classes, dtype=np.float32)[np.arange(hidden) % classes]
    return np.asarray(member / np.maximum(member.sum(axis=0), 1), np.float32)


def goodness(hidden: Floats, group: Floats) -> Floats:
    """Activities (N, H) to the mean square of each class's units (N, K)."""
    return np.asarray((hidden * hidden) @ group, np.float32)
