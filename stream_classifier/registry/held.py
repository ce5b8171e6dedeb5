"""A schema with all that it refers to, held in memory: what reads events by it does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import RegisteredSchema, SchemaReference

    from stream_classifier.registry.client import Key, RegistryClient


class Held(NamedTuple):
    """A schema and what it refers to.

    Attributes:
        schema: The schema.
        versions: Every schema that it refers to, and those refer to, by subject and version.
    """

    schema: Schema
    versions: dict[tuple[str, int], RegisteredSchema]

    @property
    def schemas(self) -> list[Schema]:
        """All of them, the one itself first."""
        return [self.schema, *(registered.schema for registered in self.versions.values())]

    def referred_to(self, schema: Schema) -> dict[str, Schema]:
        """What one of these schemas refers to, by the names that it uses."""
        return {reference.name or "": self.versions[_place(reference)].schema for reference in schema.references or []}

    def named(self) -> dict[str, Schema]:
        """Everything that any of them refers to, by name."""
        return {name: found for schema in self.schemas for name, found in self.referred_to(schema).items()}


def fetch(client: RegistryClient, key: Key, form: str | None) -> Held:
    """Get a schema and everything that it refers to.

    Raises:
        NotFoundError: One of these is not there.
        RegistryError: The registry cannot be asked.
    """
    schema = client.schema(key, form)
    versions: dict[tuple[str, int], RegisteredSchema] = {}
    left = [schema]
    while left:
        for reference in left.pop().references or []:
            place = _place(reference)
            if place not in versions:
                versions[place] = client.version(*place, form)
                left.append(versions[place].schema)
    return Held(schema, versions)


def _place(reference: SchemaReference) -> tuple[str, int]:
    return reference.subject or "", reference.version or 0


class HeldClient(SchemaRegistryClient):
    """Answers confluent-kafka's deserializers out of what is held."""

    def __init__(self, held: Held) -> None:
        # Nothing of the client that it stands for: that would open connections.
        self._held = held

    def config(self) -> dict[str, object]:
        """Of no client."""
        return {}

    def get_schema(self, *_: object, **__: object) -> Schema:
        """The schema, whatever its number."""
        return self._held.schema

    def get_schema_by_guid(self, *_: object, **__: object) -> Schema:
        """The schema, whatever its GUID."""
        return self._held.schema

    def get_version(
        self,
        subject_name: str,
        version: int | Literal["latest"] = "latest",
        deleted: bool = False,
        fmt: str | None = None,
    ) -> RegisteredSchema:
        """One that it refers to."""
        del deleted, fmt  # as it was fetched
        return self._held.versions[subject_name, int(version)]
