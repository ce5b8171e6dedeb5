"""One broker of a cluster on disk: its directory, its ports and the settings that it starts with."""

import json
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"


class Ports(NamedTuple):
    """Where one broker listens: for clients and the other brokers, and for the quorum of controllers."""

    client: int
    controller: int


@dataclass(frozen=True)
class Node:
    """A broker's number, from 1, and the directory of its files."""

    broker: int
    directory: Path

    @property
    def data(self) -> Path:
        """Kafka's own directory; it is there as soon as it is formatted."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the JVM prints."""
        return self.directory / "log.txt"

    def write_properties(self, ports: Sequence[Ports], own: Mapping[str, str], data: Path) -> None:
        """Write `server.properties` into the directory, in which Kafka must be started.

        Args:
            ports: of all brokers of the cluster, in the order of their numbers.
            own: the user's properties, which override ours.
            data: Kafka's own directory, below this one. It is named relative to it: in a whole path a comma would be
                read as the end of it.
        """
        properties = {**server_properties(self.broker, ports), **own, "log.dirs": str(data.relative_to(self.directory))}
        # JSON writes what is not ASCII as \uXXXX and doubles the backslash, as Java's properties want it.
        lines = [f"{name}={json.dumps(value)[1:-1]}\n" for name, value in properties.items()]
        (self.directory / "server.properties").write_text("".join(lines), encoding="ascii")


def free_ports(brokers: int) -> list[Ports]:
    """Choose ports on which nobody listens now; when they are used that may have changed."""
    held: list[socket.socket] = []
    try:
        while len(held) < 2 * brokers:
            # Below the range of outgoing connections, which would take them now and then.
            listener = _listen(random.randrange(20_000, 32_768))  # noqa: S311 - chance, not secrecy
            if listener:
                held.append(listener)
        numbers = [listener.getsockname()[1] for listener in held]
    finally:
        for listener in held:
            listener.close()
    return [Ports(*pair) for pair in zip(numbers[:brokers], numbers[brokers:], strict=True)]


def is_free(port: int) -> bool:
    """Tell whether a broker could listen on a port now."""
    listener = _listen(port)
    if listener:
        listener.close()
    return listener is not None


def is_listening(port: int) -> bool:
    """Tell whether anybody listens on a port now."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((HOST, port)) == 0


def _listen(port: int) -> socket.socket | None:
    try:
        return socket.create_server((HOST, port))
    except OSError:
        return None


def server_properties(broker: int, ports: Sequence[Ports]) -> dict[str, str]:
    """Give the settings of a broker that is a controller too, all but where its data lies.

    Args:
        broker: its number.
        ports: of all brokers of the cluster, in the order of their numbers.
    """
    mine = ports[broker - 1]
    voters = (f"{voter}@{HOST}:{each.controller}" for voter, each in enumerate(ports, start=1))
    copies = min(3, len(ports))
    in_sync = max(1, copies - 1)
    return {
        "process.roles": "broker,controller",
        "node.id": str(broker),
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": ",".join(voters),
        "listeners": f"PLAINTEXT://{HOST}:{mine.client},CONTROLLER://{HOST}:{mine.controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{mine.client}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        # As safe as so many brokers can be: every record on three of them, and acknowledged by two.
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        # Quick and small, rather than ready for thousands of clients.
        "group.initial.rebalance.delay.ms": "0",  # else the first consumer of a group waits 3 s for company
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "log.cleaner.dedupe.buffer.size": "2097152",  # halves the process's memory
        "num.network.threads": "1",
        "num.io.threads": "2",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "1",
    }
