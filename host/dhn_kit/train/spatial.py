"""Proposes masks over bands of rows, whose outputs are real zero where they are left out."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dhn_kit.train import masks
from dhn_kit.train.kinds import Context, Proposal


def propose(context: Context) -> list[Proposal]:
    """A gate per band, for every residual branch or block that the pack has in bands.

    After Verelst and Tuytelaars, "Dynamic Convolutions: Exploiting Spatial Sparsity for Faster Inference" (CVPR 2020),
    with bands of whole rows for pixels.
    """
    return masks.proposals(context, "spatial")
