"""kill -9 of a worker at random moments."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from chaos.scene import MOST_DUPLICATES, Scene
from chaos.size import ALO_CONSUMER, EO_CLASSIC, modes
from chaos.table import Row

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from chaos.size import Size
    from chaos.table import Table

_START_SECONDS = 1.5  # about; so that some are killed while they load the model, and some while they join


class Attack:
    """Two workers, one of them with a name that it keeps over its restarts, of which one or the other is killed.

    Args:
        scene: What is attacked.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._joined = 0
        for name in ("named", "nameless"):
            self._start(name)
        for name in ("named", "nameless"):
            scene.until_ready(name)

    def _start(self, name: str, **environment: str) -> None:
        self._scene.start(name, instance_id="the-named-one" if name == "named" else None, **environment)

    def at_work(self, chance: random.Random) -> None:
        """In the middle of what it usually does."""
        victim = chance.choice(["named", "nameless"])
        time.sleep(chance.uniform(0.1, 0.8))
        self._scene.kill(victim)
        time.sleep(chance.uniform(0, 0.5))
        self._start(victim)

    def while_it_starts(self, chance: random.Random) -> None:
        """A restarted one is killed before it is ready, or just after."""
        victim = chance.choice(["named", "nameless"])
        self._scene.kill(victim)
        self._start(victim)
        time.sleep(chance.uniform(0, 2 * _START_SECONDS))
        self._scene.kill(victim)
        self._start(victim)

    def while_partitions_move(self, chance: random.Random) -> None:
        """A third one joins, and one of the three is killed while partitions go from hand to hand."""
        self._joined += 1
        joiner = f"joiner-{self._joined}"
        self._start(joiner)
        self._scene.until_ready(joiner)
        time.sleep(chance.uniform(0, 0.4))
        victim = chance.choice(["named", "nameless", joiner])
        self._scene.kill(victim)
        if victim != joiner:
            self._start(victim)
            self._scene.stop(joiner)

    def while_it_drains(self, chance: random.Random) -> None:
        """It was told to stop."""
        victim = chance.choice(["named", "nameless"])
        time.sleep(chance.uniform(0.1, 0.5))
        self._scene.workers[victim].tell_to_stop()
        time.sleep(chance.uniform(0, 0.15))
        self._scene.kill(victim)
        self._start(victim)

    def while_it_commits(self, chance: random.Random) -> None:
        """It does hardly anything but commit."""
        victim = chance.choice(["named", "nameless"])
        self._scene.stop(victim)
        self._start(victim, KAFKA__COMMIT_INTERVAL_MS="10")
        self._scene.until(victim, lambda process: process.is_ready() and process.labelled() > 0, "is at work")
        time.sleep(chance.uniform(0.05, 0.4))
        self._scene.kill(victim)
        self._start(victim)


SCRIPTS = (
    Attack.at_work,
    Attack.while_it_commits,
    Attack.while_partitions_move,
    Attack.while_it_drains,
    Attack.while_it_starts,
)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("delivery", "protocol"), modes(ALO_CONSUMER, EO_CLASSIC))
def test_kill_9_of_a_worker_at_random_moments(
    delivery: str, protocol: str, servers: str, bundle: Path, tmp_path: Path, size: Size, table: Table
) -> None:
    """Nothing is lost. Exactly once, nothing comes twice; else a crash repeats no more than its bound."""
    kills = 0
    with Scene(servers, tmp_path, bundle, delivery=delivery, protocol=protocol, seed=size.seed) as scene:
        attack = Attack(scene)
        for number, (seed, chance) in enumerate(size.seeds(4, 200)):
            scene.load.round = seed
            script = SCRIPTS[number] if number < len(SCRIPTS) and size.rounds != 1 else chance.choice(SCRIPTS)
            print(f"seed {seed}: {script.__name__}")
            script(attack, chance)
            kills += 1 + (script is Attack.while_it_starts)
            scene.catch_up()
        verdict = scene.settle()
    table.add(
        Row(
            "worker killed",
            delivery,
            protocol,
            kills,
            verdict.inputs,
            len(verdict.lost),
            verdict.duplicates,
            scene.watcher.longest_stall,
        )
    )
    if delivery == "exactly_once":
        assert not verdict.twice
        assert not verdict.steps_back
    else:
        assert verdict.duplicates <= kills * MOST_DUPLICATES
        assert max(verdict.steps_back.values(), default=0) <= kills
