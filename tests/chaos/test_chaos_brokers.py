"""Three brokers, three copies, two of them in sync at least: and the one that matters is killed, or frozen, or all are.

Workers of several modes run side by side, so that each fault is seen by all of them.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from chaos.brokers import TRANSACTIONS, Brokers
from chaos.probe import Probe
from chaos.scene import MOST_DUPLICATES, SESSION_MS, Scene
from chaos.size import ALO_CLASSIC, ALO_CONSUMER, EO_CLASSIC, EO_CONSUMER, asked_for
from chaos.table import Row
from stream_classifier.kafka.topics import Topics
from stream_classifier.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chaos.size import Size
    from chaos.table import Table
    from stream_classifier.kafka.embedded import EmbeddedCluster

MOST_MORE_MEMORY = 64_000_000
"""Bytes. Of the clients' queues; what they may hold is bounded by their settings, not by how long an outage lasts."""

PAIRS = [(ALO_CLASSIC, EO_CONSUMER), (ALO_CONSUMER, EO_CLASSIC)] if asked_for().full else [(EO_CLASSIC,)]


class Siege:
    """A worker of each mode, on brokers that break.

    Args:
        brokers: The cluster.
        scenes: The workers.
        table: Where it is told.
        size: How much.
    """

    def __init__(self, brokers: Brokers, scenes: list[Scene], table: Table, size: Size) -> None:
        self.brokers = brokers
        self.scenes = scenes
        self.full = size.full
        self._table = table
        self._size = size

    def go(self, name: str, fault: Callable[[], None], rounds: int) -> None:
        """Break something while events come in, mend it, and see that the workers went on by themselves.

        Args:
            name: Of the fault.
            fault: Breaks something. It is mended afterwards.
            rounds: How often with `make chaos`; once, else.
        """
        done = 0
        with contextlib.ExitStack() as stack:
            probes = [stack.enter_context(Probe(scene.workers["worker"])) for scene in self.scenes]
            for seed, chance in self._size.seeds(1, rounds):
                done += 1
                for scene in self.scenes:
                    scene.load.round = seed
                time.sleep(chance.uniform(0.2, 1))
                fault()
                self.brokers.heal()
                for scene in self.scenes:
                    scene.catch_up()
            for scene in self.scenes:
                scene.until_ready("worker")
        for scene, probe in zip(self.scenes, probes, strict=True):
            self._judge(name, scene, probe, done)

    def _judge(self, name: str, scene: Scene, probe: Probe, rounds: int) -> None:
        # Each of these begins again, in order, at the first result that was not acknowledged or not committed.
        worker = scene.workers["worker"]
        again = sum(worker.logged(event) for event in ("producing again", "lost", "revoked"))
        verdict = scene.settle()
        more = f"{probe.growth / 1e6:+.0f} MB at most, not ready {probe.unready:.0%}, began again {again} times"
        self._table.add(
            Row(
                name,
                scene.delivery,
                scene.protocol,
                rounds,
                verdict.inputs,
                len(verdict.lost),
                verdict.duplicates,
                scene.watcher.longest_stall,
                more,
            )
        )
        assert set(probe.alive) == {200}, "/healthz said that it is not alive, and it went on by itself"
        assert probe.growth < MOST_MORE_MEMORY
        if scene.delivery == "exactly_once":
            assert not verdict.twice
            assert not verdict.steps_back
        else:
            assert verdict.duplicates <= again * MOST_DUPLICATES
            assert max(verdict.steps_back.values(), default=0) <= again


@pytest.fixture(params=PAIRS, ids=["-and-".join("_".join(mode) for mode in pair) for pair in PAIRS])
def siege(
    request: pytest.FixtureRequest, cluster: EmbeddedCluster, bundle: Path, tmp_path: Path, size: Size, table: Table
) -> Iterator[Siege]:
    brokers = Brokers(cluster)
    with contextlib.ExitStack() as stack:
        stack.callback(brokers.heal)
        scenes = [
            stack.enter_context(
                Scene(
                    cluster.bootstrap_servers,
                    tmp_path,
                    bundle,
                    delivery=delivery,
                    protocol=protocol,
                    seed=size.seed,
                    partitions=3,
                    rate=0.5,
                )
            )
            for delivery, protocol in request.param
        ]
        for scene in scenes:
            scene.start("worker")
        for scene in scenes:
            scene.until_ready("worker")
            scene.catch_up()
        yield Siege(brokers, scenes, table, size)


@pytest.mark.timeout(0)
def test_kill_9_of_the_partition_leader(siege: Siege) -> None:
    topic = siege.scenes[0].topics[1]
    siege.go("partition leader killed", lambda: siege.brokers.cluster.kill(siege.brokers.leader(topic)), 10)


@pytest.mark.timeout(0)
def test_kill_9_of_the_group_coordinator(siege: Siege) -> None:
    siege.go("group coordinator killed", lambda: siege.brokers.cluster.kill(siege.brokers.coordinator()), 10)


@pytest.mark.timeout(0)
def test_a_group_is_looked_at_while_its_coordinator_is_killed(siege: Siege) -> None:
    """As `check` does. A client that asks a second time after that ends its process, within librdkafka."""
    kafka = KafkaSettings(bootstrap_servers=siege.brokers.cluster.bootstrap_servers, group_id=siege.scenes[0].group)
    topics = Topics(kafka, patience=60)

    def kill() -> None:
        siege.brokers.cluster.kill(siege.brokers.coordinator())
        assert "READ" in (topics.group_operations(kafka.group_id) or ())

    siege.go("group looked at, coordinator killed", kill, 1)


@pytest.mark.timeout(0)
def test_kill_9_of_the_transaction_coordinator(siege: Siege) -> None:
    siege.go(
        "transaction coordinator killed", lambda: siege.brokers.cluster.kill(siege.brokers.leader(TRANSACTIONS)), 10
    )


@pytest.mark.timeout(0)
def test_kill_9_of_the_controller(siege: Siege) -> None:
    siege.go("controller killed", lambda: siege.brokers.cluster.kill(siege.brokers.controller()), 10)


@pytest.mark.timeout(0)
def test_a_broker_frozen_for_longer_than_the_session_timeout(siege: Siege) -> None:
    """The group's coordinator: the one whose silence costs the most."""

    def freeze() -> None:
        broker = siege.brokers.coordinator()
        siege.brokers.freeze(broker)
        time.sleep(2 * SESSION_MS / 1000)
        siege.brokers.thaw(broker)

    siege.go("broker frozen", freeze, 10)


@pytest.mark.timeout(0)
def test_all_three_brokers_gone_for_a_minute_and_back(siege: Siege) -> None:
    def outage() -> None:
        siege.brokers.kill_all()
        time.sleep(60 if siege.full else 2 * SESSION_MS / 1000)

    siege.go("all brokers gone", outage, 3)
