"""Whether records of a schema in Avro can hold records of their own type, and so be of any depth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_classifier.registry.held import Held


def is_recursive(held: Held) -> bool:
    """Whether a schema, or one that it refers to, uses a record's name within that record."""
    return any(_names_itself(json.loads(schema.schema_str or "null"), "", frozenset()) for schema in held.schemas)


def _names_itself(part: object, namespace: str, around: frozenset[str]) -> bool:
    """The same for a part.

    Args:
        part: A type, as JSON.
        namespace: The one that names without one are in.
        around: Full names of the records that the part is in.
    """
    match part:
        case str():
            return _full_name(part, namespace) in around
        case list():
            return any(_names_itself(branch, namespace, around) for branch in part)
        case {"type": "record" | "error", "name": name, "fields": fields, **others}:
            own = _full_name(name, str(others.get("namespace", namespace)))
            within = own.rpartition(".")[0]
            return any(_names_itself(field["type"], within, around | {own}) for field in fields)
        case dict():
            return any(_names_itself(part.get(kind), namespace, around) for kind in ("type", "items", "values"))
        case _:
            return False


def _full_name(name: str, namespace: str) -> str:
    return f"{namespace}.{name}" if namespace and "." not in name else name
