"""A worker that stands still for longer than its session, while another takes over, and then goes on: a zombie."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from worker_process import PATIENCE

from chaos.checker import read
from chaos.scene import MOST_DUPLICATES, SESSION_MS, Scene
from chaos.size import ALO_CLASSIC, EO_CONSUMER, modes
from chaos.table import Row

if TYPE_CHECKING:
    from pathlib import Path

    from worker_process import Process

    from chaos.size import Size
    from chaos.table import Table


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("delivery", "protocol"), modes(ALO_CLASSIC, EO_CONSUMER))
def test_a_worker_that_was_frozen_past_its_session_commits_nothing_when_it_is_thawed(
    delivery: str, protocol: str, servers: str, bundle: Path, tmp_path: Path, size: Size, table: Table
) -> None:
    """The other one goes on where the frozen one had committed, and no commit ever passes an event without a result.

    At least once, what the zombie still had in its queue may come twice, and is bounded. Exactly once, a reader of
    committed records sees nothing of it.
    """
    frozen = 0
    partitions = 4

    def has_all(process: Process) -> bool:
        return process.metric("assigned_partitions") == partitions

    with Scene(
        servers, tmp_path, bundle, delivery=delivery, protocol=protocol, seed=size.seed, partitions=partitions
    ) as scene:
        for name in ("one", "other"):
            scene.start(name)
            scene.until_ready(name)
        for seed, chance in size.seeds(1, 20):
            scene.load.round = seed
            for name in ("one", "other"):
                scene.until(name, lambda process: process.metric("assigned_partitions") > 0, "has partitions")
            victim, survivor = chance.sample(["one", "other"], 2)
            time.sleep(chance.uniform(0.1, 0.6))
            scene.workers[victim].freeze()
            frozen += 1
            scene.until(survivor, has_all, "has taken over")
            scene.catch_up()
            time.sleep(chance.uniform(0, SESSION_MS / 1000))
            scene.workers[victim].thaw()
            scene.catch_up()

        # Told to stop before it can know what happened, it finds out, and has nothing to finish.
        scene.until("one", lambda process: process.metric("assigned_partitions") > 0, "has partitions")
        zombie = scene.workers["one"]
        zombie.freeze()
        scene.until("other", has_all, "has taken over")
        del scene.workers["one"]
        zombie.tell_to_stop()
        zombie.thaw()
        assert zombie.popen.wait(PATIENCE) == 0, zombie.log.read_text()
        assert "drain timed out" not in zombie.log.read_text()
        verdict = scene.settle()
    hidden = len(read(servers, scene.topics[1], isolation="read_uncommitted")) - verdict.results
    table.add(
        Row(
            "worker frozen",
            delivery,
            protocol,
            frozen,
            verdict.inputs,
            len(verdict.lost),
            verdict.duplicates,
            scene.watcher.longest_stall,
            f"{max(hidden, 0)} aborted results that readers do not see" if delivery == "exactly_once" else "",
        )
    )
    if delivery == "exactly_once":
        assert not verdict.twice
        assert not verdict.steps_back
    else:
        assert verdict.duplicates <= frozen * MOST_DUPLICATES
