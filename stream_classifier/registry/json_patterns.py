"""The patterns of a JSON schema, matched in a time that none of them can draw out.

confluent-kafka's deserializer asks Python's `jsonschema`, whose `re` backtracks: some dozens of characters can hold a
worker up for years. What matches here takes a time that grows with the text alone, or, where a pattern looks around or
refers back, gives up after so many steps, as if the text did not match.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jsonschema_rs
from jsonschema import _keywords, _legacy_keywords, _utils

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of one match: ten milliseconds. A pattern that looks around takes one or two for each character of an ordinary text,
# of which there are 100,000 at most unless input.max_text_bytes is raised.
_STEPS = 250_000
_KEPT = 1000
_VALUES = frozenset({"const", "default", "enum", "examples"})  # whatever is in there is no schema


class BoundedPatterns:
    """What `jsonschema` uses of the module `re`."""

    @staticmethod
    def search(pattern: str, text: str) -> bool:
        """Whether a pattern, of ECMA 262 as JSON Schema wants it, is somewhere in a text.

        Raises:
            jsonschema_rs.ValidationError: It is no such pattern.
        """
        return _compiled(pattern).is_valid(text)


def unreadable(part: object) -> Iterator[str]:
    """The patterns of a schema, or of a part of one, that are none of ECMA 262."""
    if isinstance(part, dict):
        named = part.get("patternProperties")
        for pattern in (part.get("pattern"), *(named if isinstance(named, dict) else ())):
            if isinstance(pattern, str) and not _is_readable(pattern):
                yield pattern
        for name, inner in part.items():
            if name not in _VALUES:
                yield from unreadable(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from unreadable(inner)


def _is_readable(pattern: str) -> bool:
    try:
        _compiled(pattern)
    except jsonschema_rs.ValidationError:
        return False
    return True


def bound_patterns() -> None:
    """Let `jsonschema` match like this, in the whole process. It has no other place to say so.

    Validators with keywords of their own would be one, but a schema that names its draft is read by those of
    `jsonschema` again, wherever it is referred to.
    """
    for module in (_keywords, _legacy_keywords, _utils):
        module.re = BoundedPatterns


@functools.lru_cache(_KEPT)
def _compiled(pattern: str) -> jsonschema_rs.Draft7Validator:
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=_STEPS)
    return jsonschema_rs.Draft7Validator({"pattern": pattern}, pattern_options=options, offline=True)
