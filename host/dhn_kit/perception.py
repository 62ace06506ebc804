"""Names the channels in which a board describes the surroundings of an inference, and reads policies over them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dhn_kit import records
from dhn_kit.errors import DhnError
from dhn_kit.hooks import PolicyRow


@dataclass(frozen=True)
class Channel:
    """``number`` is the byte's place; ``unit`` says what one step is, ``text`` what it means. ``default`` is its value
    where nobody says, and before the first run."""

    number: int
    name: str
    unit: str
    text: str
    default: int = 0


#: Those of the application; the host may set them.
APPLICATION = 8
#: Value of "deadline" that says there is none.
NO_DEADLINE = 127
CHANNELS = (
    Channel(0, "battery", "%", "charge of the battery", 100),
    Channel(1, "temperature", "degC", "temperature", 25),
    Channel(
        2,
        "deadline",
        "%",
        "time available, of what a full run is predicted to take; 127: as much as it takes",
        NO_DEADLINE,
    ),
    Channel(3, "app3", "1", "free for the application"),
    Channel(4, "app4", "1", "free for the application"),
    Channel(5, "app5", "1", "free for the application"),
    Channel(6, "app6", "1", "free for the application"),
    Channel(7, "app7", "1", "free for the application"),
    Channel(8, "last_run", "%", "ticks of the last run, of those predicted for a full one", 100),
    Channel(9, "mean_run", "%", "their running mean, newest weight 1/8", 100),
    Channel(10, "first_segments", "%", "ticks of the last run before its second hook point, likewise"),
    Channel(11, "arena", "%", "arena that the pack needs, of the board's RAM"),
    Channel(12, "stack", "64 bytes", "deepest stack of the last run that was measured per operator; 0: none was"),
    Channel(13, "clock", "%", "clock of the core, of its nominal speed", 100),
    Channel(14, "full_runs", "%", "running share of inferences of which no hook left anything out", 100),
    Channel(15, "full_time", "ms", "time of a full run, predicted, or measured where it cannot be"),
)
_BY_NAME = {c.name: c for c in CHANNELS}
assert len(CHANNELS) == records.ENVIRONMENT
#: The environment of a board that was just started.
DEFAULTS = tuple(c.default for c in CHANNELS)

_CONDITION = re.compile(
    r"(?P<name>\w+)\s*(?:=\s*(?P<low>-?\d+)\.\.(?P<high>-?\d+)|(?P<op><=|>=|<|>|=)\s*(?P<value>-?\d+))"
)


def channel(name: str) -> Channel:
    """By name. DhnError for an unknown one."""
    if name not in _BY_NAME:
        raise DhnError(f"environment channel '{name}' is unknown; choose one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def parse_environment(text: str) -> dict[str, int]:
    """Values of the application's channels, as in "battery=40,deadline=50". DhnError for anything else."""
    values: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or not re.fullmatch(r"-?\d+", value):
            raise DhnError(f"environment '{part}' is not understood; write CHANNEL=NUMBER, such as battery=40")
        values[name] = int(value)
    check_settable(values)
    return values


def check_settable(values: Mapping[str, int]) -> None:
    """DhnError for channels that the board fills itself, and for numbers that are no int8."""
    for name, value in values.items():
        if channel(name).number >= APPLICATION:
            raise DhnError(f"environment channel '{name}' is the board's own; set one of the first {APPLICATION}")
        _check_value(name, value)


def _check_value(name: str, value: int) -> None:
    if not -128 <= value <= 127:
        raise DhnError(f"environment channel '{name}' cannot be {value}; it takes -128 to 127")


def parse_policy(
    text: str, operating_points: Sequence[str], worst_cases: Sequence[float] | None = None
) -> list[PolicyRow]:
    """Rows that choose an operating point, in their order: the first that holds wins.

    ``text`` has "CONDITION: POINT" separated by ";". A condition is "battery<20", "temperature>=60", "app3=1" or
    "app3=2..5"; POINT is the name or number of one of ``operating_points``. "deadline" alone stands for the rows of
    `deadline_rows` with ``worst_cases``. DhnError for an unknown channel or operating point.
    """
    rows: list[PolicyRow] = []
    for held, point in read_policy(text):
        if held is not None:
            rows.append(PolicyRow(_point(point, operating_points), *held))
        elif worst_cases is None:
            raise DhnError("the deadline policy needs the predicted worst case of every operating point")
        else:
            rows += deadline_rows(worst_cases)
    return rows


def read_policy(text: str) -> list[tuple[tuple[int, int, int] | None, str]]:
    """(channel, lowest, highest value) and operating point of each row; None stands for "deadline".

    DhnError for what is not understood, before there is a bundle whose operating points could be named.
    """
    rows: list[tuple[tuple[int, int, int] | None, str]] = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        condition, colon, point = (p.strip() for p in part.partition(":"))
        if part == "deadline":
            rows.append((None, ""))
        elif not colon:
            raise DhnError(f"policy '{part}' is not understood; write CONDITION: OPERATING POINT, or 'deadline'")
        else:
            rows.append((_range(condition), point))
    return rows


def _range(condition: str) -> tuple[int, int, int]:
    """(channel, lowest value, highest value) for which the condition holds."""
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise DhnError(f"condition '{condition}' is not understood; write it as battery<20 or app3=2..5")
    name = found["name"]
    number = channel(name).number
    if found["low"] is not None:
        low, high = int(found["low"]), int(found["high"])
    else:
        value = int(found["value"])
        low, high = {
            "<": (-128, value - 1),
            "<=": (-128, value),
            ">": (value + 1, 127),
            ">=": (value, 127),
            "=": (value, value),
        }[found["op"]]
    for end in (low, high):
        _check_value(name, end)
    if low > high:
        raise DhnError(f"condition '{condition}' never holds; give the smaller number first")
    return number, low, high


def _point(name: str, operating_points: Sequence[str]) -> int:
    if name in operating_points:
        return list(operating_points).index(name)
    if name.isdecimal() and int(name) < len(operating_points):
        return int(name)
    known = ", ".join(f"{k} '{n}'" for k, n in enumerate(operating_points))
    raise DhnError(f"operating point '{name}' is not in the bundle; it has {known or 'none'}")


def deadline_rows(worst_cases: Sequence[float]) -> list[PolicyRow]:
    """The thriftiest operating point whose worst case fits into the time that is left.

    ``worst_cases`` are the longest that a run at each operating point can take, as a share of a full run without hooks,
    points in order from cautious to thrifty. Where none fits, the thriftiest has the best chance. Without a deadline no
    row holds.
    """
    deadline = channel("deadline").number
    rows: list[PolicyRow] = []
    for time in range(NO_DEADLINE):
        fitting = [k for k, worst in enumerate(worst_cases) if 100 * worst <= time]
        point = max(fitting, default=len(worst_cases) - 1)
        if rows and rows[-1].point == point:
            rows[-1] = PolicyRow(point, deadline, rows[-1].low, time)
        else:
            rows.append(PolicyRow(point, deadline, -128 if not rows else time, time))
    return rows


def choose_point(rows: Sequence[PolicyRow], environment: Sequence[int], fallback: int) -> int:
    """What the board chooses (`dhn_choose_point`): the first row that holds, else ``fallback``."""
    for row in rows:
        if row.low <= environment[row.channel] <= row.high:
            return row.point
    return fallback
