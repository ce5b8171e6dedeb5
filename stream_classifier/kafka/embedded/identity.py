"""What makes a kept directory the same cluster again the next time."""

import base64
import uuid
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from stream_classifier.errors import UsageError
from stream_classifier.kafka.embedded.node import Ports, free_ports

IDENTITY_FILE = "cluster.json"


class Identity(BaseModel):
    """A cluster's id, and where each of its brokers listens (the first one's number is 1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str
    ports: tuple[Ports, ...]

    @classmethod
    def of(cls, directory: Path, brokers: int) -> Self:
        """Read a directory's identity, or make one up for a directory that has none.

        Raises:
            UsageError: it cannot be read, or is that of a cluster with another number of brokers.
        """
        path = directory / IDENTITY_FILE
        if not path.exists():
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            return cls(cluster_id=cluster_id, ports=tuple(free_ports(brokers)))
        try:
            identity = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UsageError(f"{path} is damaged: choose another directory, or remove this one.") from error
        if len(identity.ports) != brokers:
            raise UsageError(
                f"{directory} holds a cluster of {len(identity.ports)}, not of {brokers}: "
                f"start it with --brokers {len(identity.ports)}, or choose another directory."
            )
        return identity

    def on_other_ports(self) -> Self:
        """Move all brokers to ports that are free now."""
        return self.model_copy(update={"ports": tuple(free_ports(len(self.ports)))})

    def with_first_port(self, port: int) -> Self:
        """Let the first broker listen for clients on a certain port."""
        first, *others = self.ports
        return self.model_copy(update={"ports": (first._replace(client=port), *others)})

    def write(self, directory: Path) -> None:
        """Write it into its directory, all or nothing."""
        fresh = directory / f"{IDENTITY_FILE}.fresh"
        fresh.write_text(self.model_dump_json(), encoding="utf-8")
        fresh.replace(directory / IDENTITY_FILE)
