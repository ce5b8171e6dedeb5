"""What Grafana makes of a dashboard's JSON before it asks Prometheus: panels, and expressions without variables."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ANY = {"job": ".*", "instance": ".*", "label_set": ".*"}


class Panel(NamedTuple):
    """A panel, or what else of a dashboard asks Prometheus.

    Attributes:
        title: Its own.
        kind: Grafana's name of it.
        unit: Grafana's name of it.
        queries: Expression and legend of each.
        document: All of it.
    """

    title: str
    kind: str
    unit: str
    queries: list[tuple[str, str]]
    document: dict[str, Any]


def headlines(path: Path) -> list[tuple[str, int]]:
    """The title of each row, and where it stands, in rows of the grid."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    return [(panel["title"], panel["gridPos"]["y"]) for panel in dashboard["panels"] if panel["type"] == "row"]


def panels(path: Path) -> Iterator[Panel]:
    """The panels of a dashboard, those of collapsed rows too, without the rows themselves."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    for outer in dashboard["panels"]:
        for panel in [outer, *outer.get("panels", [])]:
            if panel["type"] != "row":
                queries = [(target["expr"], target["legendFormat"]) for target in panel["targets"]]
                unit = panel["fieldConfig"]["defaults"].get("unit", "")
                yield Panel(panel["title"], panel["type"], unit, queries, panel)


def variables(path: Path) -> dict[str, str]:
    """The query of each variable that is chosen from Prometheus."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    return {
        variable["name"]: variable["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    }


def without_variables(expression: str, times: Mapping[str, str]) -> str:
    """An expression as Prometheus gets it.

    Args:
        expression: The dashboard's.
        times: What Grafana's own variables, as `__rate_interval`, stand for.

    Raises:
        KeyError: It uses a variable that the dashboard does not have.
    """
    return re.sub(r"\$(\w+)", lambda match: {**ANY, **times}[match[1]], expression)
