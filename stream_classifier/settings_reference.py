"""The README's table of settings, made from the schema.

python -m stream_classifier.settings_reference              prints it
python -m stream_classifier.settings_reference README.md    writes it between the two marks in that file
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from stream_classifier.errors import UsageError
from stream_classifier.settings import Settings, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

BEGIN = "<!-- settings:begin, written by `python -m stream_classifier.settings_reference README.md` -->"
END = "<!-- settings:end -->"

_KINDS = {str: "text", bool: "`true`, `false`", int: "whole number", float: "number", Path: "path"}


def table() -> str:
    """Every setting as a row of a Markdown table: its name, what it may be, its default, what it does."""
    rows = ["| key | value | default | what it does |", "|---|---|---|---|"]
    for name, field in _settings():
        cells = (f"`{name}`", _value(field), _default(field), field.description or "")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def updated(document: str) -> str:
    """A Markdown document with the table of now between its marks.

    Raises:
        UsageError: It does not have the two marks, once and in their order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise UsageError(f"the document needs the lines {BEGIN} and {END}, once each, to write the table between")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


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
        return "properties"
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


def main(arguments: list[str]) -> None:
    """Print the table, or write it into the files that are named."""
    if not arguments:
        sys.stdout.write(table() + "\n")
    for argument in arguments:
        path = Path(argument)
        path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
