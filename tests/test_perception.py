"""Channels of the environment have names, and policies over them become rows that choose what they say."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhn_kit.errors import DhnError
from dhn_kit.hooks import PolicyRow
from dhn_kit.perception import CHANNELS, choose_point, deadline_rows, parse_environment, parse_policy

NAMES = ["risk 0.5%", "risk 2%", "all"]


def surroundings(**values: int) -> list[int]:
    return [values.get(c.name, 127 if c.name == "deadline" else 0) for c in CHANNELS]


def test_channels_are_numbered_by_their_place() -> None:
    assert [c.number for c in CHANNELS] == list(range(16)) and len({c.name for c in CHANNELS}) == 16


def test_an_environment_is_read_by_name() -> None:
    assert parse_environment("battery=40, deadline=-5,app7=127") == {"battery": 40, "deadline": -5, "app7": 127}
    assert parse_environment("") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batery=40", "'batery' is unknown; choose one of battery, temperature"),
        ("clock=40", "'clock' is the board's own"),
        ("battery=200", "'battery' cannot be 200; it takes -128 to 127"),
        ("battery", "write CHANNEL=NUMBER"),
        ("battery=full", "write CHANNEL=NUMBER"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(DhnError, match=says):
        parse_environment(text)


def test_a_policy_becomes_rows_in_its_order() -> None:
    rows = parse_policy("battery<20: risk 2%; temperature>=70: 1; app3=2..5: all; clock<=50: 0; app4=-1: 2", NAMES)
    assert rows == [
        PolicyRow(1, 0, -128, 19),
        PolicyRow(1, 1, 70, 127),
        PolicyRow(2, 3, 2, 5),
        PolicyRow(0, 13, -128, 50),
        PolicyRow(2, 4, -1, -1),
    ]
    assert choose_point(rows, surroundings(battery=50, temperature=80), 0) == 1
    assert choose_point(rows, surroundings(battery=50, app3=5, clock=60), 0) == 2
    assert choose_point(rows, surroundings(battery=50, app3=6, clock=60), 7) == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batery<20: all", "'batery' is unknown"),
        ("battery<20: risk 3%", r"'risk 3%' is not in the bundle; it has 0 'risk 0.5%', 1 'risk 2%'"),
        ("battery<20: 3", "'3' is not in the bundle"),
        ("battery<20", "write CONDITION: OPERATING POINT"),
        ("battery around 20: all", "not understood"),
        ("app3=5..2: all", "never holds"),
        ("battery<-200: all", "cannot be -201"),
        ("deadline", "worst case"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(DhnError, match=says):
        parse_policy(text, NAMES)


@given(st.lists(st.floats(0.05, 1.4), min_size=1, max_size=5), st.integers(-128, 127))
def test_a_deadline_gets_the_thriftiest_point_that_fits(worst: list[float], time: int) -> None:
    chosen = choose_point(deadline_rows(worst), surroundings(deadline=time), 99)
    fitting = [k for k, w in enumerate(worst) if 100 * w <= time]
    if time == 127:
        assert chosen == 99
    elif fitting:
        assert chosen == max(fitting)
    else:
        assert chosen == len(worst) - 1


def test_a_deadline_stands_among_other_conditions() -> None:
    rows = parse_policy("battery<5: all; deadline", NAMES, [1.2, 0.9, 0.3])
    assert choose_point(rows, surroundings(battery=3, deadline=126), 0) == 2
    chosen = [choose_point(rows, surroundings(battery=50, deadline=t), 0) for t in (10, 40, 100, 126, 127)]
    assert chosen == [2, 2, 2, 2, 0]
