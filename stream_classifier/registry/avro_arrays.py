"""Whether a schema in Avro has arrays whose items take no bytes, of which a few bytes can hold any number."""

from __future__ import annotations

from typing import Any


def has_items_without_bytes(kind: Any, named: dict[str, Any]) -> bool:  # noqa: ANN401 - fastavro's own
    """Whether a type, or one that it names, has an array like that.

    Args:
        kind: A type as fastavro has parsed it: each name is a full one.
        named: All types that have a name, by it.
    """
    return any(_has_array(part, named) for part in (kind, *named.values()))


def _has_array(part: object, named: dict[str, Any]) -> bool:
    match part:
        case list():
            return any(_has_array(branch, named) for branch in part)
        case {"type": "array", "items": items}:
            return _takes_no_bytes(items, named, frozenset()) or _has_array(items, named)
        case {"type": "record" | "error", "fields": fields}:
            return any(_has_array(field["type"], named) for field in fields)
        case dict():
            return any(_has_array(part.get(kind), named) for kind in ("type", "values"))
        case _:
            return False


def _takes_no_bytes(part: object, named: dict[str, Any], around: frozenset[str]) -> bool:
    match part:
        case "null" | {"type": "null"}:
            return True
        case {"type": "fixed", "size": size}:
            return bool(size == 0)
        case {"type": "record" | "error", "name": str(name), "fields": fields}:
            # One that is within itself without a byte in between never ends: not for this to find out.
            within = around | {name}
            return name in around or all(_takes_no_bytes(field["type"], named, within) for field in fields)
        case str() if part in named:
            return _takes_no_bytes(named[part], named, around)
        case {"type": dict() as inner}:
            return _takes_no_bytes(inner, named, around)
        case _:  # a union, an array and a map have at least a byte that tells of what comes; so have all other types
            return False
