"""docker-compose.yml, brought up under a name and on ports of its own, so that it is in nobody's way."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Self

from compose_file import OWN_IMAGE

from containers.commands import CheckError
from stream_classifier.kafka.embedded.node import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from containers.engine import Engine

IMAGE = f"{OWN_IMAGE}:check"


class Stack:
    """Some services of docker-compose.yml, from `up` to the end of the `with` block, which removes them.

    Args:
        engine: Runs them.

    Attributes:
        kafka: Kafka's address on this machine.
        prometheus: Prometheus' address there.
        grafana: Grafana's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._project = f"stream-classifier-check-{uuid.uuid4().hex[:8]}"
        (kafka, prometheus), (grafana, _) = free_ports(2)
        self.kafka = f"localhost:{kafka}"
        self.prometheus = f"http://127.0.0.1:{prometheus}"
        self.grafana = f"http://127.0.0.1:{grafana}"
        self._settings: Mapping[str, str] = {
            "KAFKA_PORT": str(kafka),
            "PROMETHEUS_PORT": str(prometheus),
            "GRAFANA_PORT": str(grafana),
            "STREAM_CLASSIFIER_TAG": IMAGE.partition(":")[2],
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is not None:
                print(self.compose("logs", "--no-color", "--tail=60"), flush=True)
        finally:
            self.compose("down", "--volumes", "--timeout=5")

    def compose(self, *arguments: str) -> str:
        """Run compose and give what it printed."""
        return self._engine.compose(self._project, *arguments, settings=self._settings)

    def up(self, *services: str) -> None:
        """Start services and what they depend on, of the images that are there."""
        self.compose("up", "--detach", "--no-build", *services)

    def container(self, service: str) -> str:
        """The id of a service's container, while that runs."""
        return self.compose("ps", "--quiet", service)

    def inside(self, container: str, *command: str) -> str:
        """Run a command in a container and give what it printed."""
        return self._engine.ask("exec", container, *command)

    def state(self, container: str, field: str) -> str:
        """A field of a container's state, as the engine shows it."""
        return self._engine.ask("inspect", "--format", f"{{{{.State.{field}}}}}", container)


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 90.0) -> None:
    """Ask twice a second until it holds.

    Raises:
        CheckError: It did not within the time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise CheckError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.5)
