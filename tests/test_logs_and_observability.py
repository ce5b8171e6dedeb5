"""What an operator sees: log lines, the three pages, and metric names that dashboards can rely on."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import orjson
import pytest
import tiny_bundle
from prometheus_client.parser import text_string_to_metric_families
from worker_config import write_config

from stream_classifier import logs
from stream_classifier.cli import run
from stream_classifier.errors import SettingsError
from stream_classifier.health import Health
from stream_classifier.metrics import Metrics
from stream_classifier.observability import ObservabilityServer
from stream_classifier.settings import ObservabilitySettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker import MakeTopic

# Names that users' dashboards and alerts rely on, each with the names of its labels. To change one is to break them.
# `transactions` comes with exactly-once delivery.
COUNTERS = {
    "events_consumed": {"topic"},
    "events_labelled": {"label_set"},
    "labels_assigned": {"label_set", "label"},
    "dead_letters": {"reason"},
    "batches": set(),
    "tokens": {"kind"},
    "commits": {"result"},
    "produce_errors": set(),
    "retries": {"cause"},
    "rebalances": {"kind"},
    "transactions": {"result"},
    "truncated": set(),
    "tombstones_passed": set(),
    "gaps": set(),
    "cache_requests": {"cache", "result"},
    "abstained": {"label_set"},
}
HISTOGRAMS = {
    "batch_events": set(),
    "batch_tokens": set(),
    "inference_seconds": set(),
    "tokenize_seconds": set(),
    "end_to_end_seconds": set(),
    "processing_seconds": set(),
    "confidence": {"label_set"},
}
GAUGES = {
    "in_flight_events": set(),
    "oldest_unsettled_seconds": set(),
    "consumer_lag": {"topic", "partition"},
    "assigned_partitions": set(),
    "paused": set(),
    "model_info": {"model", "hash", "precision", "device"},
    "ready": set(),
}


# Logs -----------------------------------------------------------------------------------------------------------------


def test_json_logs_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ObservabilitySettings(log_format="json"))
    log = logs.logger("worker")
    log.info("model loaded", labels="客服@3", note="two\nlines")
    log.warning("gap", wanted=1)
    log.debug("not shown")
    shown = capsys.readouterr()
    assert not shown.out
    assert "客服@3" in shown.err  # a person reads logs, too
    first, second = (orjson.loads(line) for line in shown.err.splitlines())
    assert datetime.fromisoformat(first.pop("timestamp")).tzinfo == UTC
    assert first == {
        "part": "worker",
        "event": "model loaded",
        "level": "info",
        "labels": "客服@3",
        "note": "two\nlines",
    }
    assert (second["event"], second["level"], second["wanted"]) == ("gap", "warning", 1)


def test_console_logs_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ObservabilitySettings(log_format="console"))
    logs.logger("worker").info("model loaded", labels="support@3")
    line = capsys.readouterr().err
    assert "model loaded" in line
    assert "labels=support@3" in line
    assert not line.startswith("{")
    assert "\x1b" not in line  # standard error is no terminal here


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_the_least_that_is_logged(
    level: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ObservabilitySettings.model_validate({"log_format": "json", "log_level": level})
    logs.configure(settings)
    log = logs.logger("worker")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("said")
    assert [orjson.loads(line)["level"] for line in capsys.readouterr().err.splitlines()] == shown


def test_without_a_terminal_logs_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    logs.configure(ObservabilitySettings(log_format="auto"))
    logs.logger("worker").info("started")
    assert orjson.loads(capsys.readouterr().err)["event"] == "started"


def test_a_worker_logs_and_counts_without_texts(
    tmp_path: Path, bootstrap_servers: str, make_topic: MakeTopic, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Given texts that are labelled, refused and fail in the model, with every log line shown, then none is seen."""
    topics = make_topic("tickets"), make_topic("labelled"), make_topic("dead-letter")
    config = write_config(
        tmp_path,
        bootstrap_servers,
        topics,
        model={"path": str(tiny_bundle.build(tmp_path / "bundle")), "threads": 1},
        dead_letter={"stop_above": 1},
        observability={"log_level": "debug"},
    )
    texts = tmp_path / "texts.jsonl"
    texts.write_bytes(
        b'{"text": "parcel private-text"}\n{"text": "boom private-text"}\n'
        b'{"text": 7, "private-text": 1}\n{private-text\n{"text": "private-text", "labels": ["private-text", 1]}\n'
    )
    log = tmp_path / "log"
    arguments = [sys.executable, "-m", "stream_classifier", "--debug", "worker", "--config", str(config)]
    with log.open("wb") as output, subprocess.Popen(arguments, stdout=output, stderr=output) as worker:
        try:
            assert run(["publish", str(texts), "--config", str(config)]) == 0
            watch = ["watch", "--config", str(config), "--json", "--from-beginning", "--count"]
            assert run([*watch, "1"]) == 0
            assert b"private-text" in capfdbinary.readouterr().out  # it went this way
            assert run([*watch, "4", "--dead-letters"]) == 0
            assert b"private-text" not in capfdbinary.readouterr().out
            lines = [orjson.loads(line) for line in log.read_bytes().splitlines()]
            (address,) = (line["metrics"] for line in lines if "metrics" in line)
            with urllib.request.urlopen(address, timeout=10) as page:  # noqa: S310 - http
                metrics = page.read()
            worker.terminate()
            assert worker.wait(60) == 0
        finally:
            worker.kill()
    assert b'reason="inference_failed"' in metrics
    assert b"private-text" not in metrics + log.read_bytes()


# The pages ------------------------------------------------------------------------------------------------------------


class Pages:
    """The server with a clock that stands still, and what a client gets from it."""

    def __init__(self, port: int, metrics: Metrics, health: Health) -> None:
        self.port = port
        self.metrics = metrics
        self.health = health

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()


@contextmanager
def served(now: float = 100.0) -> Iterator[Pages]:
    metrics, health = Metrics(), Health(now)
    with ObservabilityServer("127.0.0.1", 0, metrics, health, lambda: now) as server:
        yield Pages(server.port, metrics, health)


def test_health_is_bad_as_soon_as_the_loop_is_late() -> None:
    with served(now=100.0) as pages:
        pages.health.progress(95.0, within=5.0)
        assert pages.get("/healthz") == (200, "ok\n")
        pages.health.progress(90.0, within=8.5)
        assert pages.get("/healthz") == (503, "the loop is 1.5 s late\n")


def test_ready_is_a_loaded_model_and_a_place_in_the_group() -> None:
    with served() as pages:
        assert pages.get("/readyz") == (503, "the model is not loaded\n")
        pages.health.model = True
        assert pages.get("/readyz") == (503, "not a member of the consumer group\n")
        pages.health.group = True
        assert pages.get("/readyz") == (200, "ok\n")
        pages.health.stopping = True
        assert pages.get("/readyz") == (503, "stopping\n")


def test_other_pages_say_which_there_are() -> None:
    with served() as pages:
        assert pages.get("/") == (404, "see /metrics, /healthz or /readyz\n")
        assert pages.get("/metrics/x")[0] == 404


def test_metrics_are_served_as_prometheus_reads_them() -> None:
    with served() as pages:
        pages.metrics.consumed.labels("tickets").inc(7)
        status, body = pages.get("/metrics")
        assert status == 200
        families = {family.name: family for family in text_string_to_metric_families(body)}
        totals = [sample for sample in families["stream_classifier_events_consumed"].samples if sample.value == 7.0]
        assert [(total.name, total.labels) for total in totals] == [
            ("stream_classifier_events_consumed_total", {"topic": "tickets"})
        ]


def test_a_client_that_says_nothing_blocks_no_other() -> None:
    with served() as pages, closing(socket.create_connection(("127.0.0.1", pages.port))) as silent:
        pages.health.progress(100.0, within=1.0)
        silent.send(b"GET /met")
        assert pages.get("/healthz") == (200, "ok\n")


def test_a_port_that_is_taken_is_one_line_that_says_what_to_do() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as raised:
            ObservabilityServer("127.0.0.1", port, Metrics(), Health(0), lambda: 0)
    assert str(raised.value) == (
        f"cannot serve metrics at 127.0.0.1:{port} (Address already in use); "
        "set observability.host and observability.port (0 takes any free one)"
    )


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"cannot serve metrics at 203\.0\.113\.1:0 \("):
        ObservabilityServer("203.0.113.1", 0, Metrics(), Health(0), lambda: 0)


# The catalogue --------------------------------------------------------------------------------------------------------


def test_the_metrics_are_those_that_are_promised() -> None:
    families = {family.name: family for family in Metrics().registry.collect()}
    expected = {
        f"stream_classifier_{name}": kind
        for kind, names in (("counter", COUNTERS), ("histogram", HISTOGRAMS), ("gauge", GAUGES))
        for name in names
    }
    assert {name: family.type for name, family in families.items()} == expected
    assert all(family.documentation for family in families.values())


def test_the_labels_of_the_metrics_are_those_that_are_promised() -> None:
    metrics = Metrics()
    metrics.confidence.observe([0.5], "support@1")
    for metric in vars(metrics).values():
        if names := getattr(metric, "_labelnames", ()):
            metric.labels(*names)
    for family in metrics.registry.collect():
        name = family.name.removeprefix("stream_classifier_")
        expected = {**COUNTERS, **HISTOGRAMS, **GAUGES}[name]
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == expected, name
