"""How many cores this process may use, a container's limit included."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """The cores of the affinity mask, or of the container's CPU quota (cgroup v2 or v1) where that is less.

    Args:
        cgroup: Where the control groups of this process are mounted.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def _quota(cgroup: Path) -> float | None:
    try:
        if (version_2 := cgroup / "cpu.max").exists():
            limit, period = version_2.read_text().split()
        else:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return None if limit == "max" or int(limit) <= 0 else int(limit) / int(period)
    except (OSError, ValueError):
        return None
