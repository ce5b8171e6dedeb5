"""Which series and labels a PromQL expression uses. That it is valid is Prometheus's own to say.

Nothing is skipped: a character that is no token, or a bracket that is not closed, is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<duration>(?:\d+(?:ms|[smhdwy]))+)
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>[a-zA-Z_][a-zA-Z0-9_:]*)
    | (?P<operator>=~|!~|!=|==|>=|<=|[-+*/%^<>=@])
    | (?P<mark>[(){}\[\],:])
    """,
    re.VERBOSE,
)
_WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_PAIRS = {"(": ")", "{": "}", "[": "]"}
# Every series has these by the scrape, and ALERTS what its rule gives it.
_TARGET = {"job", "instance"}


class Token(NamedTuple):
    """A piece of an expression."""

    kind: str
    text: str


class Use(NamedTuple):
    """A series, and the labels that are asked of it.

    Attributes:
        series: Its name.
        labels: In matchers, and in the groupings around it.
    """

    series: str
    labels: frozenset[str]


def tokens(expression: str) -> list[Token]:
    """The tokens but for white space.

    Raises:
        ValueError: There is something that is no token.
    """
    found, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"no token of PromQL at {expression[at : at + 20]!r}")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group()))
        at = match.end()
    return found


def uses(expression: str) -> list[Use]:
    """The series of an expression, each with the labels that are asked of it.

    Labels of `on`, `ignoring` and `group_left` are asked of every series of the expression.

    Raises:
        ValueError: It has something that is no token, or brackets that do not match.
    """
    found = tokens(expression)
    closing = _matching(found)
    selectors: list[tuple[int, str, set[str]]] = []
    at = 0
    while at < len(found):
        here = found[at]
        after = found[at + 1].text if at + 1 < len(found) else ""
        if here.text in _GROUPING and after == "(":
            at = closing[at + 1]
        elif here.text == "{":
            raise ValueError(f"a selector without a name: {expression}")
        elif here.kind == "name" and after == "{":
            end = closing[at + 1]
            selectors.append((at, here.text, {inner.text for inner in found[at + 2 : end] if inner.kind == "name"}))
            at = end
        elif here.kind == "name" and here.text not in _WORDS and after not in {"(", "by", "without"}:
            selectors.append((at, here.text, set()))
        at += 1
    everywhere, around = _groupings(found, closing)
    return [
        Use(
            name,
            frozenset(labels | everywhere | {label for inside, asked in around if at in inside for label in asked}),
        )
        for at, name, labels in selectors
    ]


def unknown(expression: str, series: Mapping[str, Sequence[str]]) -> list[str]:
    """What an expression asks for that is not there.

    Args:
        expression: PromQL.
        series: The labels of each name that there is.
    """
    problems = []
    for use in uses(expression):
        if use.series not in series:
            problems.append(f"there is no {use.series}")
        elif missing := use.labels - set(series[use.series]) - _TARGET:
            problems.append(f"{use.series} has no label {', '.join(sorted(missing))}")
    return problems


def _matching(found: list[Token]) -> dict[int, int]:
    """Where the bracket is closed that is opened at a place."""
    closing, opened = {}, []
    for at, token in enumerate(found):
        if token.kind == "mark" and token.text in _PAIRS:
            opened.append(at)
        elif token.kind == "mark" and token.text in _PAIRS.values():
            if not opened or _PAIRS[found[opened[-1]].text] != token.text:
                raise ValueError(f"a {token.text} too many")
            closing[opened.pop()] = at
    if opened:
        raise ValueError(f"a {found[opened[-1]].text} is not closed")
    return closing


def _groupings(found: list[Token], closing: dict[int, int]) -> tuple[set[str], list[tuple[range, set[str]]]]:
    """Labels that are asked of all series, and those asked of the series at some places."""
    everywhere: set[str] = set()
    around: list[tuple[range, set[str]]] = []
    for at, token in enumerate(found[:-1]):
        if token.text not in _GROUPING or found[at + 1].text != "(":
            continue
        end = closing[at + 1]
        labels = {inner.text for inner in found[at + 2 : end] if inner.kind == "name"}
        if token.text not in {"by", "without"}:
            everywhere |= labels
        elif end + 1 < len(found) and found[end + 1].text == "(":  # sum by (label) (...)
            around.append((range(end + 1, closing[end + 1]), labels))
        else:  # sum(...) by (label)
            begin = next(opened for opened, closed in closing.items() if closed == at - 1)
            around.append((range(begin, at), labels))
    return everywhere, around
