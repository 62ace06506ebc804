"""Proposes masks over groups of a layer's output channels, which the next convolution leaves out too."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dhn_kit.train import masks
from dhn_kit.train.kinds import Context, Proposal


def propose(context: Context) -> list[Proposal]:
    """A gate per group of channels, for every pair of layers that the pack has with and without gates."""
    return masks.proposals(context, "channel")
