"""What a file of rules records and alerts on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from monitoring.promql import tokens

if TYPE_CHECKING:
    from pathlib import Path


def rules(path: Path) -> list[dict[str, Any]]:
    """All rules of a file."""
    return [rule for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def recorded(path: Path) -> dict[str, tuple[str, ...]]:
    """The labels of each series that is recorded: those of the first `by (...)` of its expression."""
    return {rule["record"]: _labels(rule["expr"]) for rule in rules(path) if "record" in rule}


def _labels(expression: str) -> tuple[str, ...]:
    found = tokens(expression)
    by = next(at for at, token in enumerate(found) if token.text == "by")
    end = next(at for at, token in enumerate(found) if at > by and token.text == ")")
    return tuple(token.text for token in found[by:end] if token.kind == "name" and token.text != "by")
