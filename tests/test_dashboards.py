"""Dashboards: current, made of metrics that there are, and shown by a real Prometheus with real workers under load."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_bundle
from monitoring import prometheus
from monitoring.grafana import Panel, panels, variables, without_variables
from monitoring.promql import Use, unknown, uses
from monitoring.recorded import recorded
from monitoring.scene import Scene, mixed

from dashboards import build
from dashboards.queries import series as select
from stream_classifier.metric_catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
RULES = ROOT / "config" / "prometheus" / "stream-classifier.rules.yml"
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
# What a panel may ask for: the catalogue, what the rules record, and Prometheus's own series of alerts.
KNOWN = {
    **{name: labels for metric in catalogue() for name, labels in metric.series.items()},
    **recorded(RULES),
    "ALERTS": ("alertname", "alertstate", "severity"),
}
TIMES = {"__rate_interval": "10s", "__range": "20s"}

LABELS = "name: support\nversion: 3\nthreshold: 0.5\nlabels: [delivery, refund, account]\n"

# What these panels show cannot happen here, or not so soon.
NOTHING = {
    "GPU busy": "there is no GPU",
    "GPU memory": "there is no GPU",
    "Label mix a week before": "there was no Prometheus a week ago",
    "Drift of the label mix": "there was no Prometheus a day ago",
}
# And these lines, by panel and legend, may be at zero all the time.
ZERO = {
    ("Alerts that fire", "alerts"): "none should",
    ("Workers that are not ready", "not ready"): "all are",
    ("Time to drain", "to drain"): "they keep up, but for moments",
    ("Lag", "events"): "they keep up, but for moments",
    ("Lag by partition", "{{topic}}/{{partition}}"): "they keep up, but for moments",
    ("In flight", "{{instance}}"): "they keep up, but for moments",
    ("Oldest unsettled event", "{{instance}}"): "they keep up, but for moments",
    ("Partitions", "{{instance}} waits with"): "they keep up",
    ("Records that were not taken at once", "not taken"): "the broker takes all of them",
    ("Gaps", "gaps"): "retention deletes nothing so soon",
}


def all_panels() -> Iterator[tuple[str, Panel]]:
    for path in DASHBOARDS:
        for panel in panels(path):
            yield path.stem, panel


# As they are committed ------------------------------------------------------------------------------------------------


def test_the_committed_files_are_current() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS}
    assert committed == build.files(), "run: make dashboards"


def test_they_are_written_where_one_says(tmp_path: Path) -> None:
    build.main([str(tmp_path)])
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == build.files()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_uses_series_and_labels_that_there_are(path: Path) -> None:
    problems = [
        (panel.title, problem)
        for panel in panels(path)
        for expression, _ in panel.queries
        for problem in unknown(without_variables(expression, TIMES), KNOWN)
    ]
    assert problems == []
    for name, query in variables(path).items():
        selector, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        assert unknown(f"sum by ({label}) ({without_variables(selector, TIMES)})", KNOWN) == [], name


def test_every_metric_of_a_worker_is_on_a_dashboard() -> None:
    """But for those that say what something is, or that another one says as well."""
    shown = {
        use.series
        for _, panel in all_panels()
        for expression, _ in panel.queries
        for use in uses(without_variables(expression, TIMES))
    }
    of_workers = [metric for metric in catalogue() if not metric.name.startswith("stream_classifier_gateway_")]
    hidden = {metric.name for metric in of_workers if not shown & set(metric.series)}
    assert hidden == {
        "stream_classifier_batches_total",  # the count of each histogram of batches
        "stream_classifier_model_info",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }


def test_a_dashboard_cannot_be_built_of_a_metric_that_there_is_not() -> None:
    with pytest.raises(KeyError, match="stream_classifier_consumer_lags"):
        select("consumer_lags")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("stream_classifier_lag", "there is no stream_classifier_lag"),
        ("sum(rate(stream_classifier_batches[5m])) by (job)", "there is no stream_classifier_batches"),
        ('stream_classifier_consumer_lag{group="a"}', "stream_classifier_consumer_lag has no label group"),
        ("sum by (reason) (stream_classifier_consumer_lag)", "stream_classifier_consumer_lag has no label reason"),
        ("sum(stream_classifier_consumer_lag) by (reason)", "stream_classifier_consumer_lag has no label reason"),
        ("stream_classifier_ready + on (pod) up", "stream_classifier_ready has no label pod"),
        (
            "sum by (le) (rate(stream_classifier_confidence_count[1m]))",
            "stream_classifier_confidence_count has no label le",
        ),
        ("a:b:c / stream_classifier_ready", "there is no a:b:c"),
    ],
)
def test_what_is_not_there_is_found(expression: str, problem: str) -> None:
    assert problem in unknown(expression, KNOWN)


def test_uses_are_found_wherever_they_stand() -> None:
    expression = (
        'label_replace(sum by (a) (rate(x_total{b=~"c|{d}"}[5m:10s] offset 1w)), "e", "f", "", "") '
        "and on (g) (y > bool 2e3) unless ignoring (h) z"
    )
    assert uses(expression) == [
        Use("x_total", frozenset("abgh")),
        Use("y", frozenset("gh")),
        Use("z", frozenset("gh")),
    ]


@pytest.mark.parametrize("expression", ["a # b", "sum(a", "a)", '{b="c"}', 'a{b="c}', "a & b"])
def test_what_is_no_promql_is_an_error(expression: str) -> None:
    with pytest.raises(ValueError, match=r"no token|not closed|too many|without a name"):
        uses(expression)


def test_every_panel_says_what_to_do_and_leads_to_a_section_of_the_runbook() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = {name.lower() for name in re.findall(r"^## (\w+)$", runbook, re.MULTILINE)}
    for stem, panel in all_panels():
        assert len(panel.document["description"].partition("\n\n")[0]) > 20, (stem, panel.title)
        assert panel.unit or panel.kind == "heatmap", (stem, panel.title)
        assert panel.document["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for link in panel.document.get("links", []):
            address, _, anchor = link["url"].partition("#")
            assert address == "${runbook}"
            assert anchor in sections, (stem, panel.title)


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        ids = set()
        for panel in panels(path):
            place = panel.document["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel.title
            assert all(0 <= x < 24 for x, _ in cells), panel.title
            taken |= cells
            ids.add(panel.document["id"])
        assert len(ids) == len(list(panels(path)))


# With a real Prometheus -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, float, float]]:
    """The scene, and from when to when it has run with all workers."""
    directory = tmp_path_factory.mktemp("monitored")
    words = [word for topic in tiny_bundle.TOPICS for word in topic]
    with Scene(
        bootstrap_servers,
        directory,
        labels=LABELS,
        model=tiny_bundle.build(directory / "bundle"),
        prometheus=prometheus.executable("prometheus"),
        rules=[RULES],
        events=mixed(words),
        rate=lambda _: 200,
    ) as running:
        begin = time.time() - 5  # the rebalance is in it
        time.sleep(8)
        yield running, begin, time.time()


def highest(found: list[dict[str, Any]]) -> float:
    """The highest value of all; NaN where there is none."""
    values = [float(text) for one in found for _, text in one["values"]]
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def test_every_panel_shows_something_of_workers_under_load(scene: tuple[Scene, float, float]) -> None:
    running, begin, end = scene
    empty, zero, wrong = set(), set(), []
    for _, panel in all_panels():
        for expression, legend in panel.queries:
            asked = without_variables(expression, TIMES)
            found = running.prometheus.between(asked, begin, end)
            most = highest(found)
            if math.isnan(most):
                empty.add(panel.title)
                continue
            if most <= 0:
                zero.add((panel.title, legend))
            labels = re.findall(r"\{\{(\w+)\}\}", legend)
            wrong += [(panel.title, label) for one in found for label in labels if label not in one["metric"]]
    assert empty == set(NOTHING)
    assert zero <= set(ZERO)
    assert wrong == []


def test_the_variables_find_what_there_is_to_choose(scene: tuple[Scene, float, float]) -> None:
    running, *_ = scene
    for path in DASHBOARDS:
        for name, query in variables(path).items():
            selector, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
            found = running.prometheus.ask(f"label/{label}/values", **{"match[]": without_variables(selector, TIMES)})
            expected = {"job": {"tickets", "tickets-exactly-once"}, "label_set": {"adhoc", "support@3"}}
            assert set(found) == expected.get(name, set(found)), name
            assert found, name


def test_prometheus_can_evaluate_every_rule(scene: tuple[Scene, float, float]) -> None:
    running, begin, end = scene
    rules = [rule for group in running.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    for rule in rules:
        assert rule["health"] != "err", rule
        running.prometheus.between(rule["query"], begin, end)


def test_a_question_that_is_no_promql_is_refused(scene: tuple[Scene, float, float]) -> None:
    running, begin, end = scene
    with pytest.raises(ValueError, match="parse error"):
        running.prometheus.between("sum by (", begin, end)
    assert running.prometheus.between("stream_classifier_lag", begin, end) == []


def test_without_prometheus_nothing_is_skipped_in_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_BIN", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install prometheus"):
        prometheus.executable("prometheus")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="NO REAL PROMETHEUS"):
        prometheus.executable("prometheus")
