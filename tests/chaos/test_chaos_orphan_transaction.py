"""A worker dies in the middle of a transaction: for how long does that hold up who reads committed records?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from chaos.scene import Scene
from chaos.size import EO_CLASSIC, modes
from chaos.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chaos.size import Size
    from chaos.table import Table

_MODES = [mode for mode in modes(EO_CLASSIC) if mode[0] == "exactly_once"]
_SHORT, _LONG = 5_000, 120_000  # milliseconds that a transaction may take
_CLEAN_UP_SECONDS = 0.5  # between the broker's looks for transactions that have taken longer: see conftest.py
_SLACK_SECONDS = 10.0  # for a machine that does many things at once
_PATIENCE = 90.0


class Readers:
    """What readers of committed records and readers of everything can read of the output.

    Args:
        scene: The workers.
    """

    def __init__(self, scene: Scene, partitions: int) -> None:
        self._places = [TopicPartition(topic, number) for topic in scene.topics[1:] for number in range(partitions)]
        self._committed, self._everything = (
            Consumer({"bootstrap.servers": scene.servers, "group.id": "ends", "isolation.level": level, "log_level": 0})
            for level in ("read_committed", "read_uncommitted")
        )

    def are_held_up(self) -> bool:
        """Whether there is something that the first cannot read yet."""
        return any(
            self._committed.get_watermark_offsets(place, 10)[1] < self._everything.get_watermark_offsets(place, 10)[1]
            for place in self._places
        )

    def held_up_for(self, since: float, look: Callable[[], None]) -> float:
        """Wait until they are not, and give the seconds since then."""
        while self.are_held_up():
            look()
            assert time.monotonic() < since + _PATIENCE, "an open transaction is never ended"
            time.sleep(0.02)
        return time.monotonic() - since

    def close(self) -> None:
        """Let go of the clients."""
        self._committed.close()
        self._everything.close()


def kill_inside_a_transaction(scene: Scene, readers: Readers, instance_id: str | None, timeout: int) -> float:
    """Kill workers until one leaves a transaction open; nothing is published any more then. Gives when it died."""
    for _ in range(50):
        scene.start(
            "worker",
            instance_id=instance_id,
            KAFKA__PRODUCER__TRANSACTION_TIMEOUT_MS=str(timeout),
            KAFKA__COMMIT_INTERVAL_MS="1600",
        )
        scene.load.go_on()
        scene.until("worker", lambda process: process.is_ready(), "is ready")
        deadline = time.monotonic() + 20
        while not readers.are_held_up() and time.monotonic() < deadline:
            scene.look()
        scene.kill("worker")
        died = time.monotonic()
        scene.load.pause()
        if readers.are_held_up():
            return died
    raise AssertionError("in 50 deaths, no transaction was open")


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("delivery", "protocol"), _MODES)
def test_an_orphan_transaction_holds_readers_up_for_no_longer_than_its_timeout(
    delivery: str, protocol: str, servers: str, bundle: Path, tmp_path: Path, size: Size, table: Table
) -> None:
    """Nobody comes back to end it: the broker does, when its time is up and it looks the next time."""
    longest = rounds = 0.0
    with Scene(servers, tmp_path, bundle, delivery=delivery, protocol=protocol, seed=size.seed) as scene:
        readers = Readers(scene, 4)
        for seed, _ in size.seeds(1, 10):
            rounds += 1
            scene.load.round = seed
            died = kill_inside_a_transaction(scene, readers, None, _SHORT)
            longest = max(longest, readers.held_up_for(died, lambda: None))
        readers.close()
        scene.start("worker")
        verdict = scene.settle()
    assert not verdict.twice
    assert longest < _SHORT / 1000 + _CLEAN_UP_SECONDS + _SLACK_SECONDS
    table.add(
        Row(
            "orphan transaction",
            delivery,
            protocol,
            int(rounds),
            verdict.inputs,
            len(verdict.lost),
            verdict.duplicates,
            scene.watcher.longest_stall,
            f"readers held up for {longest:.1f} s, timeout {_SHORT / 1000:g} s",
        )
    )


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("delivery", "protocol"), _MODES)
def test_a_restarted_worker_of_the_same_instance_id_ends_its_orphan_at_once(
    delivery: str, protocol: str, servers: str, bundle: Path, tmp_path: Path, size: Size, table: Table
) -> None:
    """The orphan could stay for two minutes; its worker is back long before that, and ends it."""
    longest = rounds = 0.0
    with Scene(servers, tmp_path, bundle, delivery=delivery, protocol=protocol, seed=size.seed) as scene:
        readers = Readers(scene, 4)
        for seed, _ in size.seeds(1, 10):
            rounds += 1
            scene.load.round = seed
            kill_inside_a_transaction(scene, readers, "the-same", _LONG)
            began = time.monotonic()
            scene.start("worker", instance_id="the-same", KAFKA__PRODUCER__TRANSACTION_TIMEOUT_MS=str(_LONG))
            longest = max(longest, readers.held_up_for(began, scene.look))
            scene.catch_up()
            scene.stop("worker")
        readers.close()
        scene.start("worker", instance_id="the-same")
        verdict = scene.settle()
    assert not verdict.twice
    assert longest < _LONG / 1000 / 2
    table.add(
        Row(
            "orphan, restarted",
            delivery,
            protocol,
            int(rounds),
            verdict.inputs,
            len(verdict.lost),
            verdict.duplicates,
            scene.watcher.longest_stall,
            f"readers held up for {longest:.1f} s after its restart, timeout {_LONG / 1000:g} s",
        )
    )
