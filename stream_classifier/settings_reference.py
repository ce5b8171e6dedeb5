"""The table of settings, made from the schema; `docs/making/reference.py` writes it into docs/configuration.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from stream_classifier.settings import Settings, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_KINDS = {str: "text", bool: "`true`, `false`", int: "whole number", float: "number", Path: "path"}


def table() -> str:
    """Every setting as a row of a Markdown table: its name, what it may be, its default, what it does."""
    rows = ["| key | value | default | what it does |", "|---|---|---|---|"]
    for name, field in _settings():
        cells = (f"`{name}`", _value(field), _default(field), field.description or "")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _settings() -> Iterator[tuple[str, FieldInfo]]:
    for name, field in Settings.model_fields.items():
        if not keys_of(field):
            yield name, field
        for key, inner in keys_of(field).items():
            yield f"{name}.{key}", inner
            yield from ((f"{name}.{key}.{last}", innermost) for last, innermost in keys_of(inner).items())


def _value(field: FieldInfo) -> str:
    if keys_of(field):
        return "keys of its own"
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if get_origin(field.annotation) is tuple:
        return "list of texts"
    if get_origin(field.annotation) is dict:
        return "names, each with a hash" if get_args(field.annotation) == (str, str) else "properties"
    kind, *_ = get_args(field.annotation) or (field.annotation,)  # of `int | None` the int
    return f"{_KINDS[kind]}{_bounds(field)}"


def _bounds(field: FieldInfo) -> str:
    bounds: dict[str, Any] = {}
    for constraint in field.metadata:
        bounds |= {name: value for name in ("ge", "gt", "le") if (value := getattr(constraint, name, None)) is not None}
    words = {"ge": "from {}", "gt": "above {}", "le": "to {}"}
    return "".join(f" {words[name].format(f'{bounds[name]:,}')}" for name in words if name in bounds)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    return f"`{json.dumps(field.get_default(call_default_factory=True)).strip(chr(34))}`"
