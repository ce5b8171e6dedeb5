"""Traces of events, as OpenTelemetry's spans: the one file that knows OpenTelemetry.

An event is followed when the context that it brought (W3C `traceparent`) says that it is sampled; of those without one,
a share that is set. For an event that is followed there are

    process TOPIC   from the poll to the acknowledgement; the child of the context that the event brought
    send TOPIC      each attempt to produce its outcome; what is written names this span as its parent

and for each batch that holds one that is followed, in traces of their own, as a batch has many parents,

    poll TOPIC      linked to the contexts that the events brought; each `process` is linked to it
    window          from the first event's poll until it came back from the model; linked to its `process` spans, and
                    they to it
    inference       its child, from the moment when it was handed to the inference threads
    commit          until the group has confirmed it, or until the transaction has gone through

Names, kinds and attributes are those of the messaging conventions (opentelemetry.io/docs/specs/semconv/messaging). No
text, key, label or message of an error becomes an attribute: errors are told by their kind.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stream_classifier import __version__
from stream_classifier.classify.classification import Classification
from stream_classifier.errors import SettingsError
from stream_classifier.events.outgoing import record_bytes
from stream_classifier.events.refusal import Refusal
from stream_classifier.logs import logger
from stream_classifier.sparse_log import SparseHandler

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.util.types import AttributeValue

    from stream_classifier.delivery import InFlight, Write
    from stream_classifier.events.outgoing import Outgoing, TopicLimits
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.ledger import Partition
    from stream_classifier.settings import Settings

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_LONGEST = 512  # letters that are read of a header: what is longer is left alone
_CLOSE_SECONDS = 2.0  # to send what was not sent yet
_PROTOCOL = "http/protobuf"
_PROPAGATOR = TraceContextTextMapPropagator()
_ROOT = Context()  # of this process's thread, which has no span of its own
_OUTCOME = "stream_classifier.outcome"


class _Followed:
    """An event that is followed, and its spans."""

    __slots__ = ("polled", "process", "send")

    def __init__(self, process: Span, polled: int) -> None:
        self.process = process
        self.polled = polled
        self.send: Span | None = None


class Spans:
    """Makes spans of what the worker tells; see `Tracing`.

    Args:
        settings: Everything that can be set.
        processor: Takes the spans that have ended.
    """

    def __init__(self, settings: Settings, processor: SpanProcessor) -> None:
        own = Resource.create({"service.name": "stream-classifier", "service.version": __version__})
        self._provider = TracerProvider(
            sampler=DEFAULT_ON,  # what is not to be recorded is not begun
            resource=own.merge(OTELResourceDetector().detect()),  # the environment has the last word
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("stream_classifier", __version__)
        self._ratio = settings.observability.tracing_ratio
        self._group = settings.kafka.group_id
        self._transactions = settings.delivery == "exactly_once"
        topics = settings.input.topics
        self._input = topics[0] if len(topics) == 1 else None
        self._followed: dict[Record, _Followed] = {}
        self._windows: dict[int, tuple[Span, Span]] = {}
        self._to_commit: list[SpanContext] = []  # acknowledged since the last commit; with transactions none is
        self._commit: Span | None = None
        self._commit_events = 0
        self._log = logger("tracing")

    def polled(self, records: Collection[Record], seconds: float) -> None:
        """Begin to follow those of them that are to be followed."""
        chosen = [(record, parent) for record in records if (parent := self._chosen(record)) is not None]
        if not chosen:
            return
        now = time.time_ns()
        poll = self._tracer.start_span(
            _name("poll", self._input),
            _ROOT,
            SpanKind.CLIENT,
            _operation("poll", "receive", self._input)
            | {"messaging.consumer.group.name": self._group, "messaging.batch.message_count": len(records)},
            [Link(parent) for _, parent in chosen if parent.is_valid],
            now - int(seconds * 1e9),
        )
        poll.end(now)
        for record, parent in chosen:
            attributes = _operation("process", "process", record.topic) | {
                "messaging.consumer.group.name": self._group,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
            }
            if record.value is None:
                attributes["messaging.kafka.message.tombstone"] = True
            span = self._tracer.start_span(
                _name("process", record.topic),
                set_span_in_context(NonRecordingSpan(parent)) if parent.is_valid else _ROOT,
                SpanKind.CONSUMER,
                attributes,
                [Link(other) for other in (parent, poll.get_span_context()) if other.is_valid],
                now,
            )
            self._followed[record] = _Followed(span, now)

    def _chosen(self, record: Record) -> SpanContext | None:
        """The context that an event brought, an invalid one where a trace begins with it, None if it is not followed.

        One whose context cannot be read is left alone, as is one that its producer did not sample.
        """
        headers = record.headers or ()
        given = [value for name, value in headers if name == TRACEPARENT]
        if not given:
            return INVALID_SPAN_CONTEXT if random.random() < self._ratio else None  # noqa: S311 - chooses, hides nothing
        parent = _parsed(given, [value for name, value in headers if name == TRACESTATE])
        return parent if parent.is_valid and parent.trace_flags.sampled else None

    def handed_out(self, number: int, entries: Collection[InFlight]) -> None:
        """Begin the window's spans, if one of its events is followed."""
        followed = self._of(entries)
        if not followed:
            return
        window = self._tracer.start_span(
            "window",
            _ROOT,
            attributes={"messaging.batch.message_count": len(entries)},
            links=[Link(event.process.get_span_context()) for event in followed],
            start_time=min(event.polled for event in followed),
        )
        for event in followed:
            event.process.add_link(window.get_span_context())
        self._windows[number] = window, self._tracer.start_span("inference", set_span_in_context(window))

    def taken_back(self, number: int, error: BaseException | None) -> None:
        """End the window's spans."""
        if spans := self._windows.pop(number, None):
            kind = None if error is None else type(error).__name__
            for span in reversed(spans):
                _end(span, kind)
            if kind is not None:
                self._log.error("a window failed", error=kind, **_names(spans[0]))

    def writing(self, write: Write, limits: Mapping[str, TopicLimits]) -> Write:
        """Have each attempt to produce an event that is followed be a span, and the record name it as its parent."""
        followed = self._followed

        def traced(entry: InFlight, now: int) -> Outgoing:
            outgoing = write(entry, now)
            event = followed.get(entry.event)
            return outgoing if event is None else self._sending(event, outgoing, limits)

        return traced

    def _sending(self, event: _Followed, outgoing: Outgoing, limits: Mapping[str, TopicLimits]) -> Outgoing:
        topic, key, value, headers, timestamp = outgoing
        if event.send is not None:
            _end(event.send, "not_acknowledged")
        event.send = self._tracer.start_span(
            _name("send", topic),
            set_span_in_context(event.process),
            SpanKind.PRODUCER,
            _operation("send", "send", topic),
        )
        named = _with_parent(headers, event.send.get_span_context())
        if record_bytes(key, value, named) > limits[topic].max_bytes:
            return outgoing  # the event counts for more than its trace
        return topic, key, value, named, timestamp

    def acknowledged(self, entries: Collection[InFlight]) -> None:
        """End what was followed."""
        now = time.time_ns()
        for entry in entries:
            if (event := self._followed.pop(entry.event, None)) is None:
                continue
            if event.send is not None:
                event.send.end(now)
            outcome = entry.outcome
            if isinstance(outcome, Refusal):
                event.process.set_attribute(_OUTCOME, "dead_letter")
                _end(event.process, outcome.code, now)
            else:
                labelled = isinstance(outcome, Classification)
                event.process.set_attribute(_OUTCOME, "labelled" if labelled else "passed_through")
                event.process.end(now)
            if not self._transactions:
                self._to_commit.append(event.process.get_span_context())

    def committing(self, events: int) -> None:
        """Begin the commit's span, if an event that is followed is among what it commits and none is under way."""
        if self._commit is not None:
            return
        contexts = self._to_commit
        if self._transactions:
            contexts = [event.process.get_span_context() for event in self._followed.values() if event.send is not None]
        if contexts:
            self._commit = self._tracer.start_span(
                "commit",
                _ROOT,
                SpanKind.CLIENT,
                _operation("commit", "settle", None) | {"messaging.consumer.group.name": self._group},
                [Link(context) for context in contexts],
            )
            self._commit_events = events
            self._to_commit = []

    def committed(self, events: int) -> None:
        """End it once it is through."""
        if self._commit is not None and events >= self._commit_events:
            self._commit.end()
            self._commit = None

    def rolled_back(self) -> None:
        """End the transaction's span as one that failed."""
        if self._transactions and self._commit is not None:
            _end(self._commit, "aborted")
            self._commit = None

    def let_go(self, partitions: Collection[Partition]) -> None:
        """End what is unfinished of them."""
        gone = [record for record in self._followed if (record.topic, record.partition) in partitions]
        for record in gone:
            self._let_go(self._followed.pop(record))

    def _let_go(self, event: _Followed) -> None:
        if event.send is not None:
            _end(event.send, "not_acknowledged")
        event.process.set_attribute(_OUTCOME, "let_go")
        event.process.end()

    def names(self, record: Record) -> dict[str, str]:
        """The ids of its `process` span."""
        event = self._followed.get(record)
        return {} if event is None else _names(event.process)

    def close(self) -> None:
        """End what is open, and send what was not sent, within two seconds."""
        for event in self._followed.values():
            self._let_go(event)
        for window, inference in self._windows.values():
            _end(inference, "unfinished")
            _end(window, "unfinished")
            self._log.warning("a window did not come back", **_names(window))
        if self._commit is not None:
            _end(self._commit, "unconfirmed")
        self._commit = None
        self._followed.clear()
        self._windows.clear()
        # The exporter may wait for a collector that does not answer, longer than this process is allowed to.
        sending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(_CLOSE_SECONDS)
        if sending.is_alive():
            self._log.warning("the last spans were not sent", reason=f"that took longer than {_CLOSE_SECONDS:g} s")

    def _of(self, entries: Iterable[InFlight]) -> list[_Followed]:
        followed = self._followed
        return [followed[entry.event] for entry in entries if entry.event in followed] if followed else []


def open_spans(settings: Settings) -> Spans:
    """Spans that go to the collector that OpenTelemetry's own environment variables name.

    Raises:
        SettingsError: These variables cannot be used.
    """
    logging.getLogger("opentelemetry").handlers = [SparseHandler(logger("tracing"))]
    logging.getLogger("opentelemetry").propagate = False
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if (os.environ.get(name) or _PROTOCOL) != _PROTOCOL:
            raise SettingsError(f"{name} asks for another protocol than {_PROTOCOL}, which is the one there is")
    try:
        return Spans(settings, BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise SettingsError(f"OpenTelemetry's environment variables cannot be used as they are: {error}") from error


def _parsed(parents: list[str | bytes | None], states: list[str | bytes | None]) -> SpanContext:
    """The context in an event's headers; an invalid one when it has several, or one that cannot be read."""
    if len(parents) != 1 or (parent := _text(parents[0])) is None:
        return INVALID_SPAN_CONTEXT
    texts = [_text(state) for state in states]
    state = ",".join(text for text in texts if text)
    carrier = {TRACEPARENT: parent} | ({TRACESTATE: state} if state and len(state) <= _LONGEST else {})
    return get_current_span(_PROPAGATOR.extract(carrier, _ROOT)).get_span_context()


def _text(value: str | bytes | None) -> str | None:
    if not isinstance(value, bytes) or len(value) > _LONGEST or not value.isascii():
        return None
    return value.decode()


def _with_parent(headers: Headers, context: SpanContext) -> Headers:
    """The headers with this span as the parent, in the place of the one that was there, or at the end."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(NonRecordingSpan(context)))
    own: tuple[str, str | bytes | None] = (TRACEPARENT, carrier[TRACEPARENT].encode())
    changed = [own if header[0] == TRACEPARENT else header for header in headers]
    return changed if own in changed else [*changed, own]


def _name(operation: str, destination: str | None) -> str:
    return operation if destination is None else f"{operation} {destination}"


def _operation(name: str, kind: str, destination: str | None) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }
    if destination is not None:
        attributes["messaging.destination.name"] = destination
    return attributes


def _end(span: Span, error: str | None, now: int | None = None) -> None:
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
    span.end(now)


def _names(span: Span) -> dict[str, str]:
    context = span.get_span_context()
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}
