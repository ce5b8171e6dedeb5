"""A container's limit counts, not the machine's size."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stream_classifier.cores import available_cores

if TYPE_CHECKING:
    from pathlib import Path

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", MINE), ("50000 100000", 1), ("100000 100000", 1), ("99900000 100000", MINE), ("nonsense", MINE)],
)
def test_quota_of_version_2(limit: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", MINE), ("100000", 1), ("99900000", MINE)])
def test_quota_of_version_1(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == cores


def test_without_control_groups(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none") == MINE
