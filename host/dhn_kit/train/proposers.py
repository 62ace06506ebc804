"""Which module proposes hooks of which kind, in the order in which they are tuned."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping

from dhn_kit.errors import DhnError
from dhn_kit.hooks import PACKED_KINDS, Kind
from dhn_kit.pack import Pack
from dhn_kit.train import bits, channel, reuse, select, spatial
from dhn_kit.train.kinds import Propose

#: What leaves out most comes first: later kinds are tuned on what is left. Skips are searched together with exits, and
#: exits, input networks and blends are trained on top of all of these.
PROPOSERS: Mapping[Kind, Propose] = {
    "reuse": reuse.propose,
    "select": select.propose,
    "spatial": spatial.propose,
    "channel": channel.propose,
    "bits": bits.propose,
}


def check_kinds(pack: Pack, kinds: tuple[Kind, ...], side: bool = False) -> None:
    """DhnError where the pack lacks what hooks of a kind need; ``side``: there is a network on the input."""
    made_for = pack.extra.get("kinds", [])
    for kind in kinds:
        if kind in PACKED_KINDS and kind not in made_for:
            raise DhnError(f"'{pack.name}' is not made for hooks of kind '{kind}': use 'dhn-kit pack --hooks {kind}'")
    if "input" in kinds and not side:
        raise DhnError("hooks of kind 'input' need a network on the input: name a trained one with --side NET.onnx")
    if side and "input" not in kinds:
        raise DhnError("a network on the input is for hooks of kind 'input': name that kind too, or leave out --side")
    if set(kinds) == {"zero"}:
        raise DhnError("leaving out zeros is exact and needs no training: the pack does it as it is")
    if "blend" in kinds and not {"exit", "input"} & set(kinds):
        raise DhnError("hooks of kind 'blend' read what exits said: name exit or input too")
