"""Proposes gates that select the narrow version of layers where the answer will hold."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dhn_kit.selections import narrow_name
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.train.select import proposals


def propose(context: Context) -> list[Proposal]:
    """The bit controller: reads a layer's pooled input and has the layers behind it run on weights of fewer bits.

    After DQNet and DAQ, with a frozen network: the gate regresses by how much the full network's class will lead. Notes
    say how many bytes of weights a run then leaves unread, and what the narrow kernels cost instead of the wide ones.
    """
    found = proposals(context, "bits", "narrow weights")
    for proposal in found:
        layers = next(s.layers for s in context.pack.selections if s.group == proposal.spec.group)
        ops = {op.name: op for op in context.pack.ops}
        bytes_saved = sum(ops[n].flash - ops[narrow_name(n)].flash for n in layers)
        more = sum(ops[narrow_name(n)].instructions - ops[n].instructions for n in layers)
        proposal.note += f"; {bytes_saved:,} bytes less to read, {more:+,.0f} instructions"
        proposal.numbers |= {"bytes saved": float(bytes_saved), "instructions": more}
    return found
