"""Which broker does what, how to break it, and how to wait until the cluster is whole again."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import orjson
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

if TYPE_CHECKING:
    from stream_classifier.kafka.embedded import EmbeddedCluster

_PATIENCE = 60.0
_REGISTER_SECONDS = 2.0
TRANSACTIONS = "__transaction_state"


class Brokers:
    """A cluster under attack.

    Args:
        cluster: Three brokers.
    """

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.cluster = cluster
        self.all = sorted(cluster.pids)
        self._admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})

    def leader(self, topic: str, partition: int = 0) -> int:
        """The leader of a partition; of `__transaction_state`, which has one, it is the transaction coordinator."""
        return int(self._admin.list_topics(timeout=30).topics[topic].partitions[partition].leader)

    def coordinator(self) -> int:
        """The coordinator of every group: the leader of `__consumer_offsets`, which has one partition here."""
        return self.leader("__consumer_offsets")

    def controller(self) -> int:
        """The active controller. Clients are told of any broker; each broker has written down whom it follows."""
        state = self.cluster._state
        assert state
        files = state.held.path.glob("broker-*/data/__cluster_metadata-0/quorum-state")
        quorum = max((orjson.loads(file.read_bytes()) for file in files), key=lambda each: each["leaderEpoch"])
        return int(quorum["leaderId"])

    def freeze(self, broker: int) -> None:
        """Stop a broker in its tracks; its connections stay open and say nothing."""
        os.kill(self.cluster.pids[broker], signal.SIGSTOP)

    def thaw(self, broker: int) -> None:
        """Undo that."""
        os.kill(self.cluster.pids[broker], signal.SIGCONT)

    def kill_all(self) -> None:
        """Kill -9, all at once as far as that goes."""
        for broker in list(self.cluster.pids):
            self.cluster.kill(broker)

    def heal(self) -> None:
        """Start those that are dead, all at once since one alone makes no quorum, and wait for every copy."""
        for pid in self.cluster.pids.values():
            os.kill(pid, signal.SIGCONT)
        missing = [broker for broker in self.all if broker not in self.cluster.pids]
        if missing:
            with ThreadPoolExecutor(len(missing)) as threads:
                list(threads.map(self.cluster.restart, missing))
        deadline = time.monotonic() + _PATIENCE
        while not self._is_whole():
            assert time.monotonic() < deadline, "the copies are not in sync again"
            time.sleep(0.05)

    def _is_whole(self) -> bool:
        try:
            topics = self._admin.list_topics(timeout=5).topics.values()
        except KafkaException:
            return False
        return all(
            len(partition.isrs) == len(partition.replicas) and partition.leader >= 0
            for topic in topics
            for partition in topic.partitions.values()
        )
