"""Alerts: each fires and stays silent as it should, uses what there is, and has its section in the runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring.prometheus import executable
from monitoring.promql import unknown
from monitoring.recorded import recorded, rules

from stream_classifier.metric_catalogue import catalogue

ROOT = Path(__file__).parents[1]
RULES = ROOT / "config" / "prometheus" / "stream-classifier.rules.yml"
CASES = sorted((ROOT / "tests" / "prometheus").glob("*.test.yml"))
ALERTS = {rule["alert"]: rule for rule in rules(RULES) if "alert" in rule}
# Of KEDA's operator, as pkg/metricscollector/prommetrics.go of kedacore/keda has them from 2.18.0 to 2.20.2.
SCALER = ("namespace", "metric", "scaledObject", "scaler", "triggerIndex", "type")
# What a rule may ask for: the catalogue, what other rules record, whether a target answers, and what KEDA says.
KNOWN = {
    **{name: labels for metric in catalogue() for name, labels in metric.series.items()},
    **recorded(RULES),
    "up": (),
    "keda_scaler_active": SCALER,
    "keda_scaled_object_errors_total": ("namespace", "scaledObject"),
}


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [executable("promtool"), *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_alerts_fire_when_they_should_and_only_then(case: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", case)


def test_a_case_that_does_not_hold_fails(tmp_path: Path) -> None:
    """Given a case whose alert fires, when it is expected to be silent, then promtool says so."""
    text = CASES[0].read_text(encoding="utf-8").replace("../../config/prometheus", str(RULES.parent))
    wrong = text.replace("summary: No worker answers; nothing is labelled.", "summary: All is well.")
    assert wrong != text
    (tmp_path / "wrong.test.yml").write_text(wrong, encoding="utf-8")
    with pytest.raises(AssertionError, match="StreamClassifierNoWorkers"):
        promtool("test", "rules", tmp_path / "wrong.test.yml")


def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for expected in case.get("alert_rule_test", []):
                (fires if expected["exp_alerts"] else silent).add(expected["alertname"])
    assert len(ALERTS) > 12
    assert fires == set(ALERTS)
    assert silent == set(ALERTS)


def test_the_rules_are_valid() -> None:
    assert f"{len(rules(RULES))} rules found" in promtool("check", "rules", RULES)


def test_prometheus_takes_its_settings_with_the_rules() -> None:
    assert "1 rule files found" in promtool("check", "config", RULES.with_name("prometheus.yml"))


@pytest.mark.parametrize("rule", rules(RULES), ids=lambda rule: str(rule.get("alert") or rule.get("record")))
def test_every_rule_uses_series_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    assert unknown(rule["expr"], KNOWN) == []


def test_each_alert_says_how_urgent_it_is_and_leads_to_its_section() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert set(rule["annotations"]) == {"summary", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_each_alert_has_its_section_in_the_runbook_and_each_section_its_alert() -> None:
    sections = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    texts = {section.partition("\n")[0]: section for section in sections}
    assert list(texts) == list(ALERTS), "in the order of the rules"
    for name, text in texts.items():
        assert f"**{ALERTS[name]['labels']['severity'].capitalize()}.**" in text, name
        assert re.search(r"^Look at", text, re.MULTILINE), name
        assert re.search(r"^Do\b", text, re.MULTILINE), name
