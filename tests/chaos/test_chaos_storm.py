"""Rebalance storms: workers that come and go as fast as they can."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from chaos.scene import MOST_DUPLICATES, Scene
from chaos.size import ALO_CLASSIC, EO_CONSUMER, modes
from chaos.table import Row

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.size import Size
    from chaos.table import Table

_MOST_WORKERS = 4


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("delivery", "protocol"), modes(ALO_CLASSIC, EO_CONSUMER))
def test_workers_that_join_and_leave_every_few_seconds_for_minutes(
    delivery: str, protocol: str, servers: str, bundle: Path, tmp_path: Path, size: Size, table: Table
) -> None:
    """Nothing is lost, whoever comes or goes; what comes twice is owed to those that were killed alone."""
    _, chance = next(size.seeds(1, 1))
    changes = kills = 0
    end = time.monotonic() + (180 if size.full else 8)
    with Scene(servers, tmp_path, bundle, delivery=delivery, protocol=protocol, seed=size.seed, partitions=6) as scene:
        while time.monotonic() < end:
            changes += 1
            names = list(scene.workers)
            if len(names) < 2 or (len(names) < _MOST_WORKERS and chance.random() < 0.5):
                scene.start(f"worker-{changes}")
            elif chance.random() < 0.3:
                scene.kill(chance.choice(names))
                kills += 1
            else:
                scene.stop(chance.choice(names))
            scene.look()
            time.sleep(chance.uniform(0.2, 3 if size.full else 1.5))
        verdict = scene.settle()
    table.add(
        Row(
            "rebalance storm",
            delivery,
            protocol,
            changes,
            verdict.inputs,
            len(verdict.lost),
            verdict.duplicates,
            scene.watcher.longest_stall,
            f"{kills} of them killed",
        )
    )
    if delivery == "exactly_once":
        assert not verdict.twice
        assert not verdict.steps_back
    else:
        assert verdict.duplicates <= kills * MOST_DUPLICATES
        assert max(verdict.steps_back.values(), default=0) <= kills
