"""The traces of a worker: what its spans are, what its records' headers name, and that a collector can be away."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import structlog
import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from stream import Stream, header
from worker_process import Process

from stream_classifier.classify.classification import Classification
from stream_classifier.cli import run
from stream_classifier.cli.tracing import open_tracing
from stream_classifier.errors import SettingsError
from stream_classifier.events.outgoing import TopicLimits, record_bytes
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.ledger import Entry, Lane, Partition
from stream_classifier.logs import logger
from stream_classifier.settings import Settings
from stream_classifier.spans import Spans
from stream_classifier.sparse_log import SparseHandler
from stream_classifier.tracing import Untraced
from stream_classifier.windows import estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from broker import MakeTopic
    from opentelemetry.sdk.trace import ReadableSpan

    from stream_classifier.classify.classifier import Classified, Request
    from stream_classifier.delivery import InFlight
    from stream_classifier.events.outgoing import Outgoing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()
UNSAMPLED = f"00-{TRACE}-{PARENT}-00".encode()
INVALID = b"00-not-a-context"
STATE, BAGGAGE = ("tracestate", b"vendor=1,other=2"), ("baggage", b"tenant=7")
A_USERS_WORD = "xyzzy"
_OUTCOME = "stream_classifier.outcome"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def make_stream(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path) -> Any:
    bundle = tiny_bundle.build(tmp_path / "bundle")

    def make(ratio: float = 0, **named: Any) -> Stream:
        observability = {"port": 0, "log_format": "json", "log_level": "info", "tracing_ratio": ratio}
        settings = {"observability": observability} | named.pop("settings", {})
        return Stream(bootstrap_servers, make_topic, tmp_path, bundle, settings=settings, **named)

    return make


def ticket(text: str = "where is my parcel") -> bytes:
    return orjson.dumps({"text": text})


def names_span(record: Record, span: ReadableSpan) -> bool:
    """Whether a record's `traceparent` names this span, as sampled."""
    context = span.context
    assert context is not None
    expected = f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-0"
    value = header(record, "traceparent")
    # The flag beside the sampled one says that the id is random, and goes along as it came.
    return isinstance(value, bytes) and value[:-1] == expected.encode() and int(value[-1:], 16) & 1 == 1


def named(spans: Any, name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent_id(span: ReadableSpan) -> int | None:
    return None if span.parent is None else int(span.parent.span_id)


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def told(span: ReadableSpan, *names: str) -> tuple[Any, ...]:
    """Values of a span's attributes; the names without `messaging.`, where they have it."""
    attributes = span.attributes or {}
    return tuple(attributes.get(name, attributes.get(f"messaging.{name}")) for name in names)


# Without spans --------------------------------------------------------------------------------------------------------


@pytest.mark.both_modes
def test_the_context_goes_from_the_input_to_the_output_and_to_dead_letters_byte_for_byte(
    make_stream: Any, delivery: str
) -> None:
    stream = make_stream(delivery=delivery)
    given_headers = [
        [("traceparent", parent), STATE, BAGGAGE] for parent in (SAMPLED, UNSAMPLED, INVALID, b"\xff", None)
    ]
    for headers in given_headers:
        stream.publish(ticket(), b"{}", headers=headers)
    stream.run(2 * len(given_headers))
    for records in (stream.labelled, stream.dead_letters):
        assert [record.headers[:3] for record in records] == given_headers


def test_untraced_leaves_no_wrapper_behind() -> None:
    def write(_: InFlight, __: int) -> Outgoing:
        raise AssertionError

    assert Untraced().writing(write, {}) is write


def test_without_tracing_opentelemetry_is_not_even_imported() -> None:
    code = "import sys, stream_classifier.cli.worker; sys.exit(any(m.startswith('opentelemetry') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# With spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.both_modes
def test_the_spans_of_a_run(make_stream: Any, delivery: str, exporter: InMemorySpanExporter) -> None:
    """Given events with every kind of context, then the sampled ones are followed, and the others stay as they are."""
    stream = make_stream(delivery=delivery)
    stream.publish(
        ticket(f"parcel {A_USERS_WORD}"), key=A_USERS_WORD.encode(), headers=[("traceparent", SAMPLED), STATE, BAGGAGE]
    )
    stream.publish(b'{"text": 5}', headers=[("traceparent", SAMPLED), STATE])
    for parent in (UNSAMPLED, INVALID):
        stream.publish(ticket(), headers=[("traceparent", parent)])
    stream.publish(ticket())
    tracing = Spans(stream.settings, SimpleSpanProcessor(exporter))
    with stream.worker(tracing=tracing) as running:
        stream.await_outcomes(5, running.check)
    tracing.close()
    spans = exporter.get_finished_spans()
    labelled, unsampled, invalid, without = stream.labelled
    (refused,) = stream.dead_letters

    assert header(unsampled, "traceparent") == UNSAMPLED
    assert header(invalid, "traceparent") == INVALID
    assert "traceparent" not in dict(without.headers)

    # They end when they are acknowledged, and the two topics may answer in any order.
    first, second = sorted(named(spans, f"process {stream.input}"), key=lambda span: told(span, "kafka.offset"))
    (sent,), (put_aside,) = named(spans, f"send {stream.output}"), named(spans, f"send {stream.dead_letter}")
    assert names_span(labelled, sent)
    assert names_span(refused, put_aside)
    assert labelled.headers[1:3] == [STATE, BAGGAGE]
    for offset, (process, send) in enumerate(((first, sent), (second, put_aside))):
        assert process.kind is SpanKind.CONSUMER
        assert process.parent is not None
        assert (format_trace_id(process.parent.trace_id), format_span_id(process.parent.span_id)) == (TRACE, PARENT)
        assert process.parent.trace_state.to_header() == "vendor=1,other=2"
        assert told(process, "operation.type", "kafka.offset", "destination.partition.id", "consumer.group.name") == (
            "process",
            offset,
            "0",
            stream.group,
        )
        assert (send.kind, parent_id(send), *told(send, "operation.type")) == (
            SpanKind.PRODUCER,
            span_id(process),
            "send",
        )
        begin, end = times(process)
        assert begin <= times(send)[0] <= times(send)[1] <= end
    assert (first.status.status_code, *told(first, _OUTCOME, "error.type")) == (StatusCode.UNSET, "labelled", None)
    assert (second.status.status_code, second.status.description) == (StatusCode.ERROR, None)
    assert told(second, _OUTCOME, "error.type") == ("dead_letter", "text_not_a_string")
    batches = [span for span in spans if span not in {first, second, sent, put_aside}]
    assert_batches_are_linked(batches, first, second, f"poll {stream.input}")
    assert all(A_USERS_WORD not in span.to_json() and not span.events for span in spans)


def assert_batches_are_linked(
    batches: list[ReadableSpan], first: ReadableSpan, second: ReadableSpan, poll_name: str
) -> None:
    polls, commits = named(batches, poll_name), named(batches, "commit")
    (window,), (inference,) = named(batches, "window"), named(batches, "inference")
    assert len(batches) == len(polls) + 2 + len(commits)
    assert {span_id(poll) for poll in polls} <= linked(first) | linked(second)
    for poll in polls:
        assert (poll.kind, poll.parent, linked(poll)) == (SpanKind.CLIENT, None, {int(PARENT, 16)})
        assert told(poll, "operation.type", "system") == ("receive", "kafka")
    assert (window.parent, linked(window)) == (None, {span_id(first)})
    assert span_id(window) in linked(first)
    assert parent_id(inference) == span_id(window)
    assert times(window)[0] <= times(inference)[0] <= times(inference)[1] <= times(window)[1]
    assert set().union(*map(linked, commits)) == {span_id(first), span_id(second)}
    for commit in commits:
        assert (commit.kind, commit.parent, commit.status.status_code) == (SpanKind.CLIENT, None, StatusCode.UNSET)
        assert told(commit, "operation.type") == ("settle",)


def test_a_trace_begins_with_a_share_of_those_without_a_context(
    make_stream: Any, exporter: InMemorySpanExporter
) -> None:
    stream = make_stream(ratio=1)
    stream.publish(ticket())
    tracing = Spans(stream.settings, SimpleSpanProcessor(exporter))
    with stream.worker(tracing=tracing) as running:
        stream.await_outcomes(1, running.check)
    (process,) = named(exporter.get_finished_spans(), f"process {stream.input}")
    (send,) = named(exporter.get_finished_spans(), f"send {stream.output}")
    assert process.parent is None
    (record,) = stream.labelled
    assert names_span(record, send)


class FailingClassifier:
    def cost(self, request: Request) -> float:
        return estimated_tokens(request.text)

    def classify(self, requests: Sequence[Request]) -> Classified:
        del requests
        raise RuntimeError(A_USERS_WORD)


def test_a_window_that_fails_is_told_by_the_kind_of_its_error_and_with_its_ids(
    make_stream: Any, exporter: InMemorySpanExporter
) -> None:
    stream = make_stream(ratio=1)
    stream.publish(ticket())
    with structlog.testing.capture_logs() as lines:
        tracing = Spans(stream.settings, SimpleSpanProcessor(exporter))
        with stream.worker(FailingClassifier(), tracing) as running:
            assert isinstance(running.ends_with(), RuntimeError)
        tracing.close()
    spans = exporter.get_finished_spans()
    (window,), (inference,) = named(spans, "window"), named(spans, "inference")
    for span in (window, inference):
        assert (*told(span, "error.type"), span.status.status_code) == ("RuntimeError", StatusCode.ERROR)
    (process,) = named(spans, f"process {stream.input}")
    assert told(process, _OUTCOME) == ("let_go",)
    (line,) = (line for line in lines if line["event"] == "a window failed")
    assert window.context is not None
    assert line["trace_id"] == format_trace_id(window.context.trace_id)
    assert line["span_id"] == format_span_id(window.context.span_id)
    assert all(A_USERS_WORD not in span.to_json() for span in spans)


# One event's spans, without a broker ----------------------------------------------------------------------------------


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "localhost:1", "group_id": "group"},
            "input": {"topics": ["in"]},
            "output": {"topic": "out"},
            "dead_letter": {"topic": "dead"},
            "labels": {"path": "unused"},
            "observability": {"tracing": True, "tracing_ratio": 0},
            **sections,
        }
    )


def entry_of(record: Record) -> InFlight:
    entry: InFlight = Entry(Lane(Partition(record.topic, record.partition)), record.offset, record, 0)
    return entry


def record_with(*headers: tuple[str, bytes | None], value: bytes | None = b"{}") -> Record:
    return Record("in", 0, 7, b"key", value, list(headers))


def write(entry: InFlight, _: int) -> Outgoing:
    record = entry.event
    return "out", record.key, record.value, list(record.headers or []), 0


LIMITS = {"out": TopicLimits(), "dead": TopicLimits()}


def test_each_attempt_to_send_is_a_span_and_the_last_one_is_what_the_record_names(
    exporter: InMemorySpanExporter,
) -> None:
    spans = Spans(settings(delivery="exactly_once"), SimpleSpanProcessor(exporter))
    record = record_with(("traceparent", SAMPLED))
    entry = entry_of(record)
    spans.polled([record], 0)
    traced = spans.writing(write, LIMITS)
    first = traced(entry, 0)
    spans.committing(1)
    spans.rolled_back()
    second = traced(entry, 0)
    spans.committing(1)
    entry.outcome = Refusal("inference_failed", A_USERS_WORD)
    spans.acknowledged([entry])
    spans.committed(1)
    failed, sent = named(exporter.get_finished_spans(), "send out")
    assert told(failed, "error.type") + told(sent, "error.type") == ("not_acknowledged", None)
    for outgoing, span in ((first, failed), (second, sent)):
        assert names_span(Record("out", 0, 0, None, None, outgoing[3]), span)
    aborted, committed = named(exporter.get_finished_spans(), "commit")
    assert (*told(aborted, "error.type"), committed.status.status_code) == ("aborted", StatusCode.UNSET)
    assert all(A_USERS_WORD not in span.to_json() for span in exporter.get_finished_spans())


def test_an_event_that_would_not_fit_with_its_context_goes_without(exporter: InMemorySpanExporter) -> None:
    spans = Spans(settings(observability={"tracing_ratio": 1}), SimpleSpanProcessor(exporter))
    record = record_with(value=b"x" * 500)
    entry = entry_of(record)
    spans.polled([record], 0)
    largest = record_bytes(record.key, record.value, [("traceparent", SAMPLED)])
    assert spans.writing(write, {"out": TopicLimits(largest - 1)})(entry, 0) == write(entry, 0)
    assert spans.writing(write, {"out": TopicLimits(largest)})(entry, 0)[3][-1][0] == "traceparent"


def test_what_is_taken_away_is_let_go_and_nothing_else(exporter: InMemorySpanExporter) -> None:
    spans = Spans(settings(), SimpleSpanProcessor(exporter))
    kept, gone = (Record("in", number, 0, None, b"{}", [("traceparent", SAMPLED)]) for number in (0, 1))
    spans.polled([kept, gone], 0)
    spans.let_go({Partition("in", 1), Partition("other", 0)})
    (process,) = named(exporter.get_finished_spans(), "process in")
    assert told(process, "destination.partition.id", _OUTCOME) == ("1", "let_go")
    assert process.status.status_code is StatusCode.UNSET
    assert spans.names(gone) == {}
    assert spans.names(kept)["trace_id"] == TRACE


def test_a_commit_of_at_least_once_lasts_until_the_group_has_confirmed_it(exporter: InMemorySpanExporter) -> None:
    spans = Spans(settings(), SimpleSpanProcessor(exporter))
    record = record_with(("traceparent", SAMPLED))
    entry = entry_of(record)
    entry.outcome = Classification("a", 1.0, (("a", 1.0),), "set@1", "model@1", False)
    spans.committing(0)  # nothing of it is followed yet
    spans.polled([record], 0)
    spans.writing(write, LIMITS)(entry, 0)
    spans.acknowledged([entry])
    spans.committing(5)
    spans.committed(4)
    assert not named(exporter.get_finished_spans(), "commit")
    spans.committed(5)
    spans.committing(6)
    assert len(named(exporter.get_finished_spans(), "commit")) == 1


FUTURE = f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like".encode()


@pytest.mark.parametrize(
    ("parents", "followed"),
    [
        ([SAMPLED], True),
        ([f"00-{TRACE}-{PARENT}-ff".encode()], True),
        ([FUTURE], True),
        ([UNSAMPLED], False),
        ([SAMPLED, SAMPLED], False),
        ([SAMPLED.upper()], False),
        ([SAMPLED + b"-more"], False),
        ([f"ff-{TRACE}-{PARENT}-01".encode()], False),
        ([f"00-{'0' * 32}-{PARENT}-01".encode()], False),
        ([f"00-{TRACE}-{'0' * 16}-01".encode()], False),
        ([FUTURE + b"x" * 600], False),
        ([b""], False),
        ([None], False),
    ],
)
def test_which_contexts_are_followed(
    parents: list[bytes | None], followed: bool, exporter: InMemorySpanExporter
) -> None:
    """As W3C's Trace Context, section 3.2, has it; and what cannot be read begins no trace, but stays as it is."""
    spans = Spans(settings(observability={"tracing_ratio": 1}), SimpleSpanProcessor(exporter))
    record = record_with(*(("traceparent", parent) for parent in parents))
    spans.polled([record], 0)
    assert bool(spans.names(record)) == followed
    assert (spans.writing(write, LIMITS)(entry_of(record), 0)[3] == record.headers) != followed


HEADERS = st.lists(
    st.tuples(st.sampled_from(["traceparent", "tracestate", "baggage", "x"]), st.none() | st.binary(max_size=60))
)


@given(HEADERS)
def test_no_header_upsets_it_and_all_others_stay(headers: list[tuple[str, bytes | None]]) -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(settings(observability={"tracing_ratio": 1}), SimpleSpanProcessor(exporter))
    record = record_with(*headers)
    spans.polled([record], 0)
    written = spans.writing(write, LIMITS)(entry_of(record), 0)[3]
    without = [one for one in headers if one[0] != "traceparent"]
    assert [one for one in written if one[0] != "traceparent"] == without
    assert bool(spans.names(record)) == (len(without) == len(headers))  # hardly by chance a valid one


# The collector --------------------------------------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A collector of OTLP over HTTP: its address, and what it was sent."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start_one(stream: Stream, environment: dict[str, str]) -> Process:
        ours = {"STREAM_CLASSIFIER_OBSERVABILITY__TRACING": "true"}
        started.append(Process(stream.config, tmp_path / "worker.log", environment | ours))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()


def test_the_spans_of_a_worker_reach_the_collector_before_it_ends(
    make_stream: Any, start: Any, collector: tuple[str, list[ExportTraceServiceRequest]]
) -> None:
    address, received = collector
    stream = make_stream(ratio=1)
    stream.publish(ticket(), ticket())
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    process = start(stream, environment | {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"})
    process.until(lambda: process.is_ready() and process.labelled() == 2, "both are labelled")
    assert not received
    process.tell_to_stop()
    assert process.popen.wait(30) == 0
    resources = [resource for request in received for resource in request.resource_spans]
    names = sorted(span.name for one in resources for scope in one.scope_spans for span in scope.spans)
    assert names.count(f"send {stream.output}") == 2
    assert {"window", "inference", "commit", f"poll {stream.input}"} <= set(names)
    attributes = {one.key: one.value.string_value for one in resources[0].resource.attributes}
    assert (attributes["service.name"], attributes["deployment.environment.name"]) == ("stream-classifier", "test")


def test_a_collector_that_is_down_changes_nothing_but_a_line_of_the_log(
    make_stream: Any, start: Any, closed_port: int
) -> None:
    stream = make_stream(ratio=1)
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:secret@127.0.0.1:{closed_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_BSP_MAX_QUEUE_SIZE": "64",  # it is full in a moment
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    stream.publish(*[ticket()] * 1000)
    process = start(stream, environment)
    process.until(lambda: process.is_ready() and process.labelled() == 1000, "all are labelled")
    time.sleep(2)  # it goes on failing
    process.tell_to_stop()
    begun = time.monotonic()
    assert process.popen.wait(30) == 0
    assert time.monotonic() - begun < 10
    log = process.log.read_text()
    lines = [orjson.loads(line) for line in log.splitlines()]  # every line is one of ours
    of_tracing = [line for line in lines if line["part"] == "tracing"]
    assert 1 <= len(of_tracing) <= 2, of_tracing
    assert of_tracing[0]["level"] == "warning"
    assert "secret" not in log


def test_a_collector_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5")
        spans = open_tracing(settings())
        spans.polled([record_with(("traceparent", SAMPLED))], 0)
        begun = time.monotonic()
        with structlog.testing.capture_logs() as lines:
            spans.close()
        assert 1.5 < time.monotonic() - begun < 4
    assert [line["event"] for line in lines if line["log_level"] == "warning"][-1] == "the last spans were not sent"


def test_lines_of_the_library_are_few_and_without_values() -> None:
    now = 100.0
    library = logging.getLogger("a library of this test")
    library.propagate = False
    with structlog.testing.capture_logs() as lines:
        library.addHandler(SparseHandler(logger("tracing"), lambda: now))
        for seconds in (0, 1, 58.9, 60, 61):
            now = 100.0 + seconds
            library.warning("%s: %s of %d after %.1f s", "http://user:secret@host", ValueError("secret"), 7, seconds)
        now = 300.0
        library.error("100% of it")
        now = 400.0
        library.error("%d of them", "secret")
    assert [(line["said"], line["lines"]) for line in lines] == [
        ("<str>: <ValueError> of 7 after 0.0 s", 1),
        ("<str>: <ValueError> of 7 after 60.0 s", 3),
        ("100% of it", 2),
        ("%d of them", 1),
    ]


# What it takes --------------------------------------------------------------------------------------------------------


def test_without_the_extra_there_is_one_line(
    make_stream: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = make_stream()
    monkeypatch.setenv("STREAM_CLASSIFIER_OBSERVABILITY__TRACING", "true")
    for name in [name for name in sys.modules if name.startswith(("opentelemetry.", "stream_classifier.spans"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert run(["worker", "--config", str(stream.config)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "OpenTelemetry is not installed: run `pip install '.[otel]'`" in line
    assert run(["check", "--offline", "--config", str(stream.config)]) == 1
    assert "PROBLEM  tracing: observability.tracing is on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "asks for another protocol than http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "asks for another protocol than http/protobuf"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "environment variables cannot be used"),
    ],
)
def test_variables_that_cannot_be_used_are_told(
    name: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=line):
        open_tracing(settings())


def test_opentelemetrys_own_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    assert isinstance(open_tracing(settings()), Untraced)
