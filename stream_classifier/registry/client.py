"""The registry's client: its errors are either about what was asked for, or about the registry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from stream_classifier.errors import RegistryError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka.schema_registry import RegisteredSchema

    from stream_classifier.settings import SchemaRegistrySettings

AnswerT = TypeVar("AnswerT")
Key = int | str
"""A schema's number, or its GUID."""

# https://docs.confluent.io/platform/current/schema-registry/develop/api.html#errors: no such subject, version, schema.
_NOT_FOUND = frozenset({40401, 40402, 40403})
# The registry's own word for a path that it does not have: those before version 8 have none for GUIDs.
_NO_SUCH_PATH = 404
# Incompatible with the subject's schemas; not a valid schema.
_REFUSED = frozenset({409, 422})
_READ_ONLY = 42205  # with HTTP 422: the registry takes no schemas at all at the moment
_LARGEST_ID = 2**31 - 1  # the registry has them as signed numbers, and calls its own path unknown for larger ones
_TIMEOUT_SECONDS = 10.0
_URLS = re.compile(r",(?=\s*https?://)")


class NotFoundError(Exception):
    """The registry says that there is no such schema, subject or version. Never leaves this room."""


class RefusedError(Exception):
    """The registry does not take this schema. Never leaves this room."""


class RegistryClient:
    """Asks the registry, each time once.

    Args:
        settings: Where it is.

    Raises:
        SettingsError: The client does not take `schema_registry.client`.
    """

    def __init__(self, settings: SchemaRegistrySettings) -> None:
        # Who asks, and the password, may stand there, and in the password anything: the last @ ends it.
        self._url = ",".join(re.sub(r"//.*@", "//", url.strip()) for url in _URLS.split(settings.url))
        self._auto_register = settings.auto_register
        # A question is repeated by whoever asks it, who counts that and tells of it.
        properties: dict[str, Any] = {"max.retries": 0, "timeout": _TIMEOUT_SECONDS, **settings.client}
        try:
            self._client = SchemaRegistryClient(properties | {"url": settings.url})
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(
                f"schema_registry.client cannot be used ({type(error).__name__}: {_told(error)})"
            ) from None

    def schema(self, key: Key, form: str | None) -> Schema:
        """A schema by its number or its GUID.

        Args:
            key: Which one.
            form: How it is to be written: `serialized` for Protobuf's descriptors; None for the schema's own language.

        Raises:
            NotFoundError: There is none.
            RegistryError: The registry cannot be asked.
        """
        if isinstance(key, int):
            if key > _LARGEST_ID:
                raise NotFoundError
            return self._asked(lambda: self._client.get_schema(key, None, form))
        return self._asked(lambda: self._client.get_schema_by_guid(key, form), absent=_NOT_FOUND | {_NO_SUCH_PATH})

    def version(self, subject: str, version: int, form: str | None) -> RegisteredSchema:
        """A schema that another one refers to; see `schema`."""
        return self._asked(lambda: self._client.get_version(subject, version, True, form))

    def output_id(self, subject: str, schema: Schema) -> int:
        """The number of a schema under a subject, where it is registered if it has to and may be.

        Raises:
            NotFoundError: It is not there, and `schema_registry.auto_register` is off.
            RefusedError: The registry does not take it.
            RegistryError: The registry cannot be asked.
        """
        if self._auto_register:
            return self._asked(lambda: self._client.register_schema(subject, schema))
        number = self._asked(lambda: self._client.lookup_schema(subject, schema)).schema_id
        if number is None:
            raise NotFoundError
        return number

    def reach(self) -> list[str]:
        """The names of all subjects that may be seen.

        Raises:
            RegistryError: The registry cannot be asked.
        """
        return self._asked(self._client.get_subjects)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _asked(self, question: Callable[[], AnswerT], absent: frozenset[int] = _NOT_FOUND) -> AnswerT:
        try:
            return question()
        except SchemaRegistryError as error:
            if error.http_status_code == 404 and error.error_code in absent:  # noqa: PLR2004 - HTTP's
                raise NotFoundError from None
            if error.http_status_code in _REFUSED and error.error_code != _READ_ONLY:
                raise RefusedError(f"{error.http_status_code}/{error.error_code}") from None
            # A 404 without the registry's own code comes from something that is not one.
            raise RegistryError(f"the schema registry at {self._url} answers HTTP {error.http_status_code}") from None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - those of HTTP, TLS and token endpoints have no root in common
            raise RegistryError(
                f"the schema registry at {self._url} cannot be asked ({type(error).__name__}); does it run, and do "
                "schema_registry.url and schema_registry.client fit it?"
            ) from None


def _told(error: Exception) -> str:
    """The client's message, which names properties; nothing of it that could be a value."""
    return str(error).partition("{")[0].splitlines()[0] if str(error) else "no reason given"
