"""The metrics port: who reaches it, what it says, and that nobody's events or requests can make it grow or stop."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import subprocess
import sys
import time
import unicodedata
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import orjson
import psutil
import pytest
import tiny_bundle
from confluent_kafka import KafkaError as ClientError
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families
from stream import PATIENCE, Stream

from stream_classifier.classify.measures import CacheName, CacheResult, RetryCause
from stream_classifier.events.refusal import Code
from stream_classifier.metric_catalogue import catalogue
from stream_classifier.metrics import Metrics
from stream_classifier.model.bundle import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker import MakeTopic

Series = tuple[str, tuple[tuple[str, str], ...]]

PARTITIONS = 3
LABELS = ("delivery", "refund", "account")


class Process:
    """A `worker` command of its own.

    Attributes:
        address: Host and port of its pages, once it has said so.
    """

    def __init__(self, stream: Stream, log: Path) -> None:
        self._log = log
        self.address = ("", 0)
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "stream_classifier", "worker", "--config", str(stream.config)],
                stdout=output,
                stderr=output,
            )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.popen.poll() is None, f"the worker ended: {self._log.read_text()}"
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}; {self._log.read_text()}"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        complete = self._log.read_bytes().rpartition(b"\n")[0].splitlines()
        for line in map(orjson.loads, complete):
            if "metrics" in line:
                host, _, port = line["metrics"].removeprefix("http://").removesuffix("/metrics").rpartition(":")
                self.address = (host, int(port))
        with contextlib.suppress(OSError):
            return self.address != ("", 0) and self.page("/readyz") == "ok\n"
        return False

    def page(self, name: str) -> str:
        host, port = self.address
        with urllib.request.urlopen(f"http://{host}:{port}{name}", timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def series(self) -> set[Series]:
        """Every series but for the moment when it began, which comes with each counter."""
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in text_string_to_metric_families(self.page("/metrics"))
            for sample in family.samples
        }

    def total(self, name: str) -> float:
        """The sum over all series of a sample."""
        return sum(value for _, value in self.samples(name))

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each series of a sample."""
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(self.page("/metrics"))
            for sample in family.samples
            if sample.name == f"stream_classifier_{name}"
        ]


class Started(NamedTuple):
    """A worker that is ready, and its topics."""

    process: Process
    stream: Stream


@pytest.fixture
def start(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    bundle = tiny_bundle.build(tmp_path / "bundle")
    with contextlib.ExitStack() as stack:

        def start_one(observability: dict[str, Any], **settings: dict[str, Any]) -> Started:
            shown = {"log_format": "json", "log_level": "info", "port": 0}
            settings |= {"observability": shown | observability}
            stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, partitions=PARTITIONS, settings=settings)
            process = Process(stream, tmp_path / "worker.log")
            stack.callback(process.popen.wait)
            stack.callback(process.popen.kill)
            process.until(process.is_ready, "ready")
            return Started(process, stream)

        yield start_one


# Who reaches it -------------------------------------------------------------------------------------------------------


def listening(pid: int) -> set[str]:
    """The addresses at which a process listens."""
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def other_addresses() -> list[str]:
    """This machine's addresses that others could reach."""
    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]


def is_reached(host: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((host, port)) == 0


def test_it_is_bound_to_localhost_unless_told_otherwise(start: Callable[..., Started]) -> None:
    process, _ = start({})
    assert listening(process.popen.pid) == {"127.0.0.1"}
    assert is_reached("127.0.0.1", process.address[1])
    assert not any(is_reached(host, process.address[1]) for host in other_addresses())


def test_it_is_bound_to_another_address_by_the_settings(start: Callable[..., Started]) -> None:
    process, _ = start({"host": "0.0.0.0"})  # noqa: S104 - that it can be is what is shown
    assert listening(process.popen.pid) == {"0.0.0.0"}  # noqa: S104
    assert all(is_reached(host, process.address[1]) for host in ["127.0.0.1", *other_addresses()])


# What it says ---------------------------------------------------------------------------------------------------------

MARK = "zq7"  # in every text, label, key, header and member that is made up here, and in nothing else


class Noise:
    """Events that nobody would want in a metric, by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        letters = [chr(code) for code in range(0x20, 0x3000) if unicodedata.category(chr(code)) not in {"Cs", "Cn"}]
        self._letters = [*letters, "我", "要", "退", "款", "🙏", '"', "\\", "\n", "{", "}", "="]

    def word(self) -> str:
        return MARK + "".join(self._random.choices(self._letters, k=self._random.randint(1, 12)))

    def event(self) -> bytes | None:
        some, word = self._random, self.word
        event: dict[str, Any] = {"text": f"parcel {word()}", word(): word()}
        kinds: list[Callable[[], Any]] = [
            lambda: event,
            lambda: event | {"labels": [word() for _ in range(some.randint(2, 6))]},
            lambda: event | {"labels": [word(), 5]},
            lambda: event | {"text": some.choice([5, None, [word()], {word(): word()}])},
            lambda: event | {"text": "  "},
            lambda: {word(): word()},
            lambda: orjson.dumps(event)[: some.randint(1, 20)],
            lambda: [word()],
            lambda: None,
            lambda: b"\xff" + some.randbytes(some.randint(0, 50)),
            lambda: event | {"classification": word()},
            lambda: event | {"text": f"boom {word()}"},  # the model fails on it
            lambda: event | {"text": f"{word()} " * 2_000},
        ]
        made = some.choice(kinds)()
        return made if made is None or isinstance(made, bytes) else orjson.dumps(made)

    def publish(self, producer: Producer, topic: str, count: int) -> None:
        for _ in range(count):
            headers: list[tuple[str, str | bytes | None]] = [
                (self.word(), self.word()),
                (f"classifier-{self.word()}", None),
            ]
            producer.produce(topic, self.event(), self.word(), headers=headers)
            producer.poll(0)
        assert producer.flush(PATIENCE) == 0


def allowed(stream: Stream) -> dict[str, set[str]]:
    """Every value that each name of a label may have: from the settings, the label set and the code."""
    bounds = {
        sample.labels["le"]
        for family in Metrics().registry.collect()
        for sample in family.samples
        if "le" in sample.labels
    }
    # Labelled histograms have no series before the first event.
    bounds |= {str(tenth / 10) for tenth in range(1, 11)}
    codes = [name for name in dir(ClientError) if name.isupper()]
    client_errors = {f"kafka_{name.strip('_').lower()}" for name in codes}
    path = stream.settings.model.path
    assert path is not None
    return {
        "topic": {stream.input},
        "partition": {str(number) for number in range(PARTITIONS)},
        "label_set": {"support@3", "adhoc"},
        "label": {*LABELS, "other"},
        "reason": set(get_args(Code)),
        "kind": {"useful", "padding", "assigned", "revoked", "lost"},
        "cache": set(get_args(CacheName)),
        "result": {*get_args(CacheResult), "ok", "failed", "committed", "aborted"},
        "cause": {*get_args(RetryCause), "produce", "transaction", "schema_registry", *client_errors},
        "model": {"tiny"},
        "hash": {verify(path).short_hash},
        "precision": {"fp32"},
        "device": {"cpu"},
        "le": bounds,
    }


def test_its_series_are_bounded_and_hold_no_text_whatever_is_fed_in(
    start: Callable[..., Started], bootstrap_servers: str, tmp_path: Path
) -> None:
    """Given events of random texts, labels, members, keys and headers, most of them broken, when twice as many come,
    then no series is added; and each is made of what the settings, the label set and the code know."""
    process, stream = start({"log_level": "debug"}, dead_letter={"stop_above": 1}, input={"max_text_bytes": 10_000})
    seed = random.randrange(2**32)  # noqa: S311 - no secret
    print("seed", seed)  # noqa: T201 - shown when the test fails
    noise = Noise(seed)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5})
    half = 1500

    lags: set[Series] = {
        ("stream_classifier_consumer_lag", (("partition", str(number)), ("topic", stream.input)))
        for number in range(PARTITIONS)
    }

    def series_after(events: int) -> set[Series]:
        noise.publish(producer, stream.input, half)
        process.until(lambda: process.total("processing_seconds_count") == events, f"{events} are done")
        # Gauges are some time behind the counters.
        process.until(lambda: lags <= process.series(), "the lag of each partition is shown")
        return process.series()

    first = series_after(half)
    second = series_after(2 * half)
    assert second == first
    refused = {labels["reason"] for labels, count in process.samples("dead_letters_total") if count}
    assert len(refused) >= 10, "all kinds of bad input were among them"
    assert ("stream_classifier_labels_assigned_total", (("label", "other"), ("label_set", "adhoc"))) in second

    known = allowed(stream)
    series = {name: labels for metric in catalogue() for name, labels in metric.series.items()}
    series |= {
        re.sub("_(total|count)$", "_created", name): labels for name, labels in series.items() if "le" not in labels
    }
    for name, labels in second:
        assert {label for label, _ in labels} == set(series[name]), name
        for label, value in labels:
            assert value in known[label], (name, label)
    assert MARK not in process.page("/metrics")
    assert MARK not in (tmp_path / "worker.log").read_text(encoding="utf-8")


# Odd requests ---------------------------------------------------------------------------------------------------------

ODD = {
    "an unknown path": b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    "POST": b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\nx",
    "a query": b"GET /metrics?name[]=" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
    "a huge header": b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "thousands of headers": b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
    "a huge first line": b"GET /" + b"x" * 200_000,
    "no HTTP": random.Random(1).randbytes(1000),  # noqa: S311 - no secret
    "HTTP/0.9": b"GET /metrics\r\n",
    "an unknown method": b"\xff\x00 /metrics HTTP/9.9\r\n\r\n",
    "nothing": b"",
}


def client_hello() -> bytes:
    """What a client sends that wants TLS."""
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    return said.read()


def send(address: tuple[str, int], request: bytes) -> bytes:
    """Send bytes, and read a first part of the answer, if there is one."""
    with socket.create_connection(address, timeout=PATIENCE) as client:
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return client.recv(100)
        except OSError:  # it hung up in the middle
            return b""


def test_odd_requests_leave_the_worker_working(start: Callable[..., Started]) -> None:
    """Given requests of every odd kind, hundreds of half-open connections and clients that do not read, then events
    are labelled all the same, and the pages come back."""
    process, stream = start({})
    for request in (*ODD.values(), client_hello()):
        answer = send(process.address, request)
        assert not answer.startswith(b"HTTP/1.0 5"), request[:40]
    worker = psutil.Process(process.popen.pid)
    threads, files = worker.num_threads(), worker.num_fds()
    with contextlib.ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(socket.create_connection(process.address, timeout=PATIENCE))
            with contextlib.suppress(OSError):  # it hung up on this one
                client.sendall(b"" if number % 2 else b"GET /metrics HT")
        assert worker.num_threads() <= threads + 40, "they do not take a thread each"
        assert worker.num_fds() <= files + 40, "nor a file handle each"
        stream.publish(b'{"text":"where is my parcel"}', b"not JSON")
        stream.await_outcomes(2)
    process.until(process.is_ready, "the pages are back")
    assert process.total("events_labelled_total") == 1
    assert process.page("/healthz") == "ok\n"
    process.popen.terminate()
    assert process.popen.wait(PATIENCE) == 0
