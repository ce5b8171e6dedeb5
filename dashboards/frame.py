"""What both dashboards have around their panels: what can be chosen at the top, links, and the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    TextBoxVariable,
)
from grafana_foundation_sdk.builders.dashboard import Row as RowPanel
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.panels import DATASOURCE
from dashboards.queries import HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.builders import bargauge, heatmap, stat, timeseries
    from grafana_foundation_sdk.models import dashboard as models

TAG = "stream-classifier"
# `make docs-serve` shows the runbook there. Whoever publishes it elsewhere writes that into the box and saves it.
RUNBOOK = "http://127.0.0.1:8000/runbook.html"


class Row(NamedTuple):
    """Panels below a headline.

    Attributes:
        title: The headline.
        panels: Their widths add up to multiples of 24.
        collapsed: Whether they are shown only when the headline is clicked.
    """

    title: str
    panels: Sequence[stat.Panel | timeseries.Panel | bargauge.Panel | heatmap.Panel]
    collapsed: bool = False


def framed(
    uid: str, title: str, description: str, since: str, rows: Sequence[Row], label_sets: bool
) -> models.Dashboard:
    """A dashboard.

    Args:
        uid: Names it in addresses.
        title: What Grafana lists it as.
        description: What it is for.
        since: Where the time begins that is shown, as Grafana writes it.
        rows: From top to bottom.
        label_sets: Whether label sets can be chosen, too.
    """
    dashboard = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            DashboardLink("stream-classifier")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=True)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_choice("job", "Group of workers", "stream_classifier_ready", ""))
        .with_variable(_choice("instance", "Worker", "stream_classifier_ready", '{job=~"$job"}'))
        .annotation(
            AnnotationQuery()
            .name("Alerts")
            .datasource(DATASOURCE)
            .enable(enable=True)
            .icon_color("red")
            .expr('ALERTS{alertname=~"StreamClassifier.*", alertstate="firing"}')
        )
    )
    if label_sets:
        name = "stream_classifier_events_labelled_total"
        dashboard.with_variable(_choice("label_set", "Label set", name, '{job=~"$job"}'))
    dashboard.with_variable(TextBoxVariable("runbook").label("Runbook at").default_value(RUNBOOK))
    for row in rows:
        headline = RowPanel(row.title).collapsed(row.collapsed)
        if row.collapsed:
            for panel in row.panels:
                headline.with_panel(panel)
        dashboard.with_row(headline)
        if not row.collapsed:
            for panel in row.panels:
                dashboard.with_panel(panel)
    built = dashboard.build()
    _number(built)
    return built


def _choice(label: str, title: str, metric: str, matchers: str) -> QueryVariable:
    """The values of a label, of which any can be chosen."""
    if metric not in HELP:
        raise KeyError(metric)
    return (
        QueryVariable(label)
        .label(title)
        .datasource(DATASOURCE)
        .query(f"label_values({metric}{matchers}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _number(dashboard: models.Dashboard) -> None:
    """Give panels ids, by which links lead to them."""
    number = 0
    for panel in dashboard.panels or []:
        number += 1
        panel.id_val = number
        for inner in getattr(panel, "panels", None) or []:
            number += 1
            inner.id_val = number
