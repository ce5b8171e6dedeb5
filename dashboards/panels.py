"""How panels look: one function for each kind that the dashboards have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef, Threshold, ThresholdsMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.queries import HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

EVENTS = "short"
EVENTS_A_SECOND = "suffix: events/s"
TOKENS_A_SECOND = "suffix: tokens/s"
SECONDS = "s"
SHARE = "percentunit"
BYTES = "bytes"
NUMBER = "short"

AnyPanel = TypeVar("AnyPanel", stat.Panel, timeseries.Panel, bargauge.Panel, heatmap.Panel)

_COLOURS = ("green", "orange", "red")


class Query(NamedTuple):
    """What a panel shows.

    Attributes:
        expr: PromQL.
        legend: Names a series; `{{label}}` is the value of a label.
    """

    expr: str
    legend: str


class Words(NamedTuple):
    """What a panel says of itself.

    Attributes:
        title: What is shown.
        advice: What a good value is, and what to do about a bad one.
        alert: The section of the runbook that says more; empty when there is none.
    """

    title: str
    advice: str
    alert: str = ""


def value(
    words: Words,
    query: Query,
    unit: str,
    *,
    limits: tuple[float, ...] = (),
    no_value: str = "none",
    decimals: int | None = None,
) -> stat.Panel:
    """One number, with its colour.

    Args:
        words: Title and description.
        query: Gives one series.
        unit: Grafana's name of it.
        limits: From where on it is orange, then red.
        no_value: What stands there when the query gives nothing.
        decimals: How many; None lets Grafana choose.
    """
    panel = (
        stat.Panel()
        .with_target(_target(query, 0).instant())
        .unit(unit)
        .no_value(no_value)
        .thresholds(_thresholds(limits))
        .color_mode(BigValueColorMode.BACKGROUND if limits else BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return _finished(panel, words, [query], span=4, height=4)


def lines(
    words: Words,
    queries: Sequence[Query],
    unit: str,
    *,
    limits: tuple[float, ...] = (),
    stacked: StackingMode = StackingMode.NONE,
    most: float | None = None,
    span: int = 8,
) -> timeseries.Panel:
    """Lines over time, and a table of them below.

    Args:
        words: Title and description.
        queries: Give the lines.
        unit: Grafana's name of it.
        limits: Dashed lines: orange, then red.
        stacked: One on top of the other, or not.
        most: Where the axis ends.
        span: Width; 24 is all of it.
    """
    stacks = stacked is not StackingMode.NONE
    panel = (
        timeseries.Panel()
        .unit(unit)
        .min(0)
        .thresholds(_thresholds(limits))
        .thresholds_style(
            common.GraphThresholdsStyleConfig().mode(
                GraphTresholdsStyleMode.DASHED if limits else GraphTresholdsStyleMode.OFF
            )
        )
        .line_width(1)
        .fill_opacity(40 if stacks else 0)
        .stacking(common.StackingConfig().mode(stacked).group("A"))
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["mean", "max", "lastNotNull"])
            .sort_by("Max")
            .sort_desc(sort_desc=True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if most is not None:
        panel.max(most)
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number))
    return _finished(panel, words, queries, span=span)


def bars(words: Words, query: Query, unit: str) -> bargauge.Panel:
    """A bar for each series, as it is now.

    Args:
        words: Title and description.
        query: Gives the bars.
        unit: Grafana's name of it.
    """
    panel = (
        bargauge.Panel()
        .with_target(_target(query, 0).instant())
        .unit(unit)
        .min(0)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(color="blue")]))
    )
    return _finished(panel, words, [query])


def density(words: Words, query: Query) -> heatmap.Panel:
    """How many observations fell into each bucket of a histogram, over time.

    Args:
        words: Title and description.
        query: Gives a series for each `le`.
    """
    panel = heatmap.Panel().with_target(_target(query, 0).format(PromQueryFormat.HEATMAP))
    return _finished(panel, words, [query])


def _target(query: Query, number: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .ref_id(chr(ord("A") + number))
    )


def _thresholds(limits: tuple[float, ...]) -> ThresholdsConfig:
    colours = _COLOURS[: len(limits) + 1]
    steps = [Threshold(bound, colour) for bound, colour in zip((None, *limits), colours, strict=True)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _finished(panel: AnyPanel, words: Words, queries: Sequence[Query], *, span: int = 8, height: int = 8) -> AnyPanel:
    """Give a panel its place, its title, what to do, and what the catalogue says of its metrics."""
    panel.datasource(DATASOURCE).span(span).height(height)
    named = sorted({name for query in queries for name in re.findall(r"\w+", query.expr) if name in HELP})
    meaning = "\n".join(f"- `{name}`: {HELP[name]}" for name in named)
    panel.title(words.title).description(f"{words.advice}\n\n{meaning}".strip())
    if words.alert:
        link = (
            DashboardLink(f"Runbook: {words.alert}")
            .type(DashboardLinkType.LINK)
            .url(f"${{runbook}}#{words.alert.lower()}")
            .target_blank(target_blank=True)
        )
        panel.links([link])
    return panel
