"""Gates that select a smaller network or narrow layers: what they propose, and limits of the environment."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Array
from dhn_kit.hooks import Bundle, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack, pack
from dhn_kit.precision import choose_bits
from dhn_kit.train import bits, select
from dhn_kit.train.certify import predicted_costs
from dhn_kit.train.data import split_from_inputs
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.twin import Twin
from test_selections import answers, pair


@pytest.fixture(scope="module")
def two() -> tuple[Pack, Array]:
    big, small, _ = pair()
    q = np.random.default_rng(5).integers(-128, 128, (300, 8, 8, 3)).astype(np.int8)
    q[:150] //= 4  # half of the inputs are weak, which a pooled input tells
    return pack(big, "armv7em", hooks=["select"], small=small), q


def proposed(packed: Pack, q: Array) -> list[Proposal]:
    context = Context(packed, split_from_inputs(packed, q), predicted_costs(packed))
    return [*select.propose(context), *bits.propose(context)]


def decided(packed: Pack, spec: HookSpec, threshold: int, q: Array) -> tuple[Array, Array]:
    """(outputs, whether it acted) at this threshold."""
    bundle = pack_bundle(packed, Bundle([dataclasses.replace(spec, thresholds=[threshold])], ["only"]))
    result = Twin(packed, bundle).run(q)
    return result.output, result.decisions[:, 0] == 2


def test_a_selected_input_has_the_small_networks_answer_and_others_the_big_ones(two: tuple[Pack, Array]) -> None:
    packed, q = two
    (proposal,) = proposed(packed, q)
    small = select.run_selecting(packed, packed.selections[0], q)
    big = answers(packed, q)
    shares = []
    for threshold in proposal.grid:
        output, acted = decided(packed, proposal.spec, threshold, q)
        assert (output == np.where(acted[:, None], small, big)).all()
        shares.append(acted.mean())
    assert shares == sorted(shares) and shares[-1] == 1.0 and shares[0] < 1.0
    assert proposal.numbers["keeps"] == (small.argmax(axis=1) == big.argmax(axis=1)).mean()


def test_no_gate_is_proposed_for_a_pack_of_one_network(two: tuple[Pack, Array]) -> None:
    assert proposed(pack(pair()[0], "armv7em"), two[1]) == []


def test_limits_of_the_environment_select_whatever_the_input_is(two: tuple[Pack, Array]) -> None:
    packed, q = two
    spec = select.propose(Context(packed, split_from_inputs(packed, q), predicted_costs(packed)))[0].spec
    limited = select.within_limits(spec, {2: 100, 0: 20}).net
    port = spec.net.inputs[0].tensor
    features = q[:64].reshape(64, -1)[:, : spec.net.tensors[port].size].reshape(64, *spec.net.tensors[port].shape)
    plain = run_int8(spec.net, features)[spec.net.outputs[0].tensor]
    for deadline, battery, below in ((127, 100, False), (100, 20, False), (99, 100, True), (127, 5, True)):
        env = np.zeros((64, 1, 1, 16), np.int8)
        env[..., 0], env[..., 2] = battery, deadline
        score = run_int8(limited, [features, env])["limited"]
        assert (score == 127).all() if below else (score == plain).all()


def test_a_hook_with_limits_runs_in_the_pack(two: tuple[Pack, Array]) -> None:
    packed, q = two
    proposal = proposed(packed, q)[0]
    threshold = proposal.grid[0]
    _, acted = decided(packed, proposal.spec, threshold, q)
    _, unlimited = decided(packed, select.within_limits(proposal.spec, {0: -128}), threshold, q)
    output, limited = decided(packed, select.within_limits(proposal.spec, {0: 127}), threshold, q)
    assert (unlimited == acted).all() and not acted.all()
    assert limited.all() and (output == select.run_selecting(packed, packed.selections[0], q)).all()


def test_a_limit_on_an_unknown_channel_is_refused(two: tuple[Pack, Array]) -> None:
    with pytest.raises(DhnError, match=r"environment channel \[16\] is unknown; they are 0 to 15"):
        select.within_limits(proposed(*two)[0].spec, {16: 1})


def test_notes_of_narrow_layers_say_bytes_and_instructions() -> None:
    big, _, q = pair()
    narrow = choose_bits(big, q, "4", "armv7em").graph
    packed = pack(big, "armv7em", hooks=["bits"], narrow=narrow)
    found = proposed(packed, q)
    assert len(found) == len(packed.selections) > 0
    assert all("bytes less to read" in p.note and p.spec.kind == "bits" for p in found)
    assert [p.spec.group for p in found] == [s.group for s in packed.selections]
