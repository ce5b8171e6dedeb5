"""docs/sizing.md agrees with itself, and with what its command works out."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
ROWS = [
    tuple(float(cell) for cell in row)
    for row in re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
]


def test_the_plan_on_the_page_is_what_the_command_prints() -> None:
    ((command, printed),) = re.findall(r"```console\n\$ python (.*?)\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout == printed


def test_the_curve_on_the_page_goes_through_its_table() -> None:
    ((fixed, each, pair),) = re.findall(r"\*\*([\d.]+) ms \+ ([\d.]+) ms \* tokens \+ ([\d.]+) ms \* tokens²\*\*", PAGE)
    assert len(ROWS) == 7
    for tokens, cost, _ in ROWS:
        curve = float(fixed) + float(each) * tokens + float(pair) * tokens * tokens
        assert curve == pytest.approx(cost, rel=0.06)  # 5 %, and what was rounded on the page


def test_what_a_core_labels_has_a_fifth_for_what_is_around_the_model() -> None:
    for _, cost, events in ROWS:
        assert events == pytest.approx(1000 / (1.2 * cost), rel=0.03)
