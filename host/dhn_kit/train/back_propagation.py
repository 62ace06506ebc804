"""Gradients of a small head's cross-entropy: the whole chain, from the answer back to the first layer."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.train.descent import Floats, Gradients, Rows, softmax


def gradients(x: Floats, target: Floats, weight: Floats) -> Gradients:
    """For `descent.minimise`: x (N, F), target (N, K) with rows that sum to 1, weight (N,) of each row.

    Parameters are weight (in, out) and bias (out,) per layer, one or two layers, ReLU between them.
    Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors".
    """

    def of(parameters: list[Floats], rows: Rows) -> list[Floats]:
        batch = x[rows]
        hidden = batch
        if len(parameters) == 4:
            hidden = np.maximum(batch @ parameters[0] + parameters[1], 0)
        g = softmax(hidden @ parameters[-2] + parameters[-1]) - target[rows]
        g *= weight[rows, None] / np.float32(len(rows))
        last = [hidden.T @ g, g.sum(axis=0)]
        if len(parameters) == 2:
            return last
        gh = (g @ parameters[2].T) * (hidden > 0)
        return [batch.T @ gh, gh.sum(axis=0), *last]

    return of
