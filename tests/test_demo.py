"""The demo keeps what the README says of it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dhn_kit.boards import load_board
from dhn_kit.demo import run_demo


@pytest.mark.slow
def test_the_demo_halves_the_work_at_a_certified_risk_of_one_percent(tmp_path: Path) -> None:
    outcome = run_demo(tmp_path / "demo", load_board("qemu-cortex-m4"))
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary == outcome.summary
    assert summary["ratio"] <= 0.5
    assert summary["risk_bound"] <= 0.01 and summary["delta"] == 0.05
    assert abs(summary["after"]["accuracy"] - summary["before"]["accuracy"]) <= 0.005
    assert summary["samples"] == 2000 and summary["samples_lost"] == 0 and summary["board_equals_twin"]
    page = outcome.report.read_text()
    # Namespaces are names, nobody fetches them.
    links = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert page.count("<svg") >= 4 and not re.search(r'(src|href)="(?!#)', links)
