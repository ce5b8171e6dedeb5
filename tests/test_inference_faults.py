"""A model that is slow, fails, runs out of memory or breaks; its threads and its files. All on a real broker."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
from in_and_out import everything_is_committed, nothing_is_lost
from stream import PATIENCE, RunningWorker, Stream, header
from worker_process import Process

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.similarity import Similarity
from stream_classifier.errors import ModelError, OutOfMemoryError, StalledError
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from broker import MakeTopic
    from numpy.typing import NDArray

    from stream_classifier.classify.classifier import Classified, Request

TEXTS = {"delivery": "where is my parcel", "refund": "money refund", "account": "password login"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "bundle")


@pytest.fixture
def make_stream(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> Callable[..., Stream]:
    def make(*, model: Path = bundle, settings: dict[str, Any] | None = None, **named: Any) -> Stream:
        settings = {"cache": {"results": 0}} | (settings or {})
        return Stream(bootstrap_servers, make_topic, tmp_path, model, delivery=delivery, settings=settings, **named)

    return make


def publish(stream: Stream, count: int) -> None:
    """Events of which no two have the same text: equal ones are run once."""
    texts = list(TEXTS.values())
    stream.publish(*[orjson.dumps({"id": n, "text": f"{texts[n % 3]} {n}"}) for n in range(count)])


def labels_are_right(stream: Stream) -> None:
    for record in stream.labelled:
        event = orjson.loads(record.value or b"")
        assert event["classification"]["label"] == list(TEXTS)[event["id"] % 3]


class Interrupted(Classifier):
    """Does something of a test's own before it labels."""

    def __init__(self, encoder: Encoder, before: Callable[[], None]) -> None:
        super().__init__(Similarity(encoder, max_tokens=64), results_cached=0)
        self._before = before

    def classify(self, requests: Sequence[Request]) -> Classified:
        self._before()
        return super().classify(requests)


def is_at_work(worker: RunningWorker) -> bool:
    return worker.in_flight > 0


def waiting_for(gate: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        assert gate.wait(PATIENCE)

    return wait


class FailingEncoder(Encoder):
    """A real model whose runs fail when `fails` says so."""

    fails: Callable[[], bool] = staticmethod(lambda: False)

    def embed(self, ids: Sequence[Sequence[int]]) -> NDArray[Any]:
        if self.fails():
            raise RunFailedError("the device has a fault")
        return super().embed(ids)


def failing(bundle: Path, fails: Callable[[], bool]) -> Classifier:
    encoder = FailingEncoder.open(bundle)
    encoder.fails = fails
    return Classifier(Similarity(encoder, max_tokens=64), results_cached=0)


def test_inference_slower_than_max_poll_interval_ms(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path
) -> None:
    """The first window takes longer than both timeouts allow between polls: no rebalance, no repetition. In both
    protocols and all modes, at the same time, as it takes a while."""
    at_most = {"max.poll.interval.ms": 6000}
    own = {"classic": {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}, "consumer": {}}
    gate = threading.Event()
    running: dict[tuple[str, str], tuple[Stream, RunningWorker]] = {}
    with contextlib.ExitStack() as stack:
        for protocol, mode in itertools.product(own, ("at_least_once", "exactly_once")):
            settings: dict[str, Any] = {
                "kafka": {"group_protocol": protocol, "consumer": at_most | own[protocol], "commit_interval_ms": 100},
                "batch": {"max_in_flight": 64, "max_events": 64},
            }
            stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=mode, settings=settings)
            publish(stream, 200)
            slow = Interrupted(Encoder.open(bundle), waiting_for(gate))
            running[protocol, mode] = stream, stack.enter_context(stream.worker(slow))
        stack.callback(gate.set)
        for _, worker in running.values():
            worker.until(partial(is_at_work, worker), "the model has the first window")
        begin = time.monotonic()
        while time.monotonic() - begin < 7:
            for _, worker in running.values():
                worker.check()
                assert worker.health.alive(time.monotonic()) is None
                assert worker.in_flight <= 64
            time.sleep(0.05)
        assert all(not stream.labelled for stream, _ in running.values())
        gate.set()
        for stream, worker in running.values():
            worker.until(partial(everything_is_committed, stream), "all is labelled and committed")
            assert worker.metric("rebalances_total", kind="assigned") == 1, "it never left its group"
            assert worker.metric("rebalances_total", kind="lost") == 0
            assert worker.health.ready() is None
    for (_, mode), (stream, _) in running.items():
        nothing_is_lost(stream, mode, once=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_inference_that_raises_at_random(
    seed: int, make_stream: Callable[..., Stream], bundle: Path, delivery: str
) -> None:
    """Given one run in five that fails, then each event is labelled, or put aside if it failed alone and the texts that
    are known to be good did not. When those failed too, the worker ended, and the next one goes on."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    lock = threading.Lock()

    def fails() -> bool:
        with lock:
            return chance.random() < 0.2

    stream = make_stream(partitions=2, settings={"batch": {"max_events": 32, "max_in_flight": 128}})
    publish(stream, 400)
    retries, ends = 0.0, 0
    while not everything_is_committed(stream):
        with stream.worker(failing(bundle, fails)) as running:
            try:
                running.until(lambda: everything_is_committed(stream), "all is labelled and committed")
            except ModelError:
                running.ends_with()
                ends += 1
            retries += running.metric("retries_total", cause="inference")
    assert retries > 0, f"seed {seed}: nothing failed"
    assert ends < 100, f"seed {seed}: it came no further"
    nothing_is_lost(stream, delivery)
    labels_are_right(stream)
    assert {header(letter, "classifier-error-code") for letter in stream.dead_letters} <= {b"inference_failed"}
    assert len(stream.dead_letters) < 200


def test_inference_that_raises_on_every_text(make_stream: Callable[..., Stream], tmp_path: Path, delivery: str) -> None:
    """The worker ends, no event is blamed, and with a good model the next one labels all of them."""
    stream = make_stream(model=tiny_bundle.build_broken(tmp_path / "broken"))
    publish(stream, 100)
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, ModelError)
    assert "stream-classifier model verify" in str(error)
    assert (stream.dead_letters, stream.labelled, stream.committed().get(0, 0)) == ([], [], 0)
    finish_with_a_good_model(stream, tmp_path / "bundle", delivery)


def finish_with_a_good_model(stream: Stream, bundle: Path, delivery: str) -> None:
    good = Classifier(Similarity(Encoder.open(bundle)))
    with stream.worker(good) as running:
        running.until(lambda: everything_is_committed(stream), "all is labelled and committed")
    nothing_is_lost(stream, delivery)
    labels_are_right(stream)
    assert stream.dead_letters == []


def test_a_device_that_breaks(make_stream: Callable[..., Stream], bundle: Path, delivery: str) -> None:
    """A model that worked and then fails on everything: what it labelled stays, nothing else is put aside."""
    broken = threading.Event()
    stream = make_stream(partitions=2)
    with stream.worker(failing(bundle, broken.is_set)) as running:
        publish(stream, 150)
        running.until(lambda: everything_is_committed(stream), "the first are labelled")
        broken.set()
        before = stream.committed()
        publish(stream, 150)
        error = running.ends_with()
    assert isinstance(error, ModelError)
    assert "the model or the device is broken" in str(error)
    assert stream.dead_letters == []
    assert len(stream.labelled) == 150
    assert stream.committed() == before
    finish_with_a_good_model(stream, bundle, delivery)


def test_out_of_memory_in_a_batch_is_split_and_retried(
    make_stream: Callable[..., Stream], tmp_path: Path, delivery: str
) -> None:
    stream = make_stream(model=tiny_bundle.build_hungry(tmp_path / "hungry", max_tokens=40))
    publish(stream, 200)
    with stream.worker() as running:
        running.until(lambda: everything_is_committed(stream), "all is labelled and committed")
        assert running.metric("retries_total", cause="out_of_memory") >= 1
    nothing_is_lost(stream, delivery, once=True)
    labels_are_right(stream)
    assert stream.dead_letters == []


def test_out_of_memory_in_a_batch_of_one_ends_the_worker_and_blames_no_event(
    make_stream: Callable[..., Stream], tmp_path: Path, bundle: Path, delivery: str
) -> None:
    stream = make_stream(model=tiny_bundle.build_hungry(tmp_path / "hungry", max_tokens=40))
    with stream.worker() as running:
        publish(stream, 30)
        running.until(lambda: everything_is_committed(stream), "the first are labelled")
        stream.publish(orjson.dumps({"id": 0, "text": "parcel " * 50}))
        publish(stream, 30)
        error = running.ends_with()
    assert isinstance(error, OutOfMemoryError)
    assert "lower batch.max_tokens or model.max_length" in str(error)
    assert stream.dead_letters == []
    assert len(stream.labelled) == 30
    assert stream.committed() == {0: 30}
    finish_with_a_good_model(stream, bundle, delivery)


def test_a_thread_that_raises_what_ends_a_process_ends_the_worker_with_a_reason(
    make_stream: Callable[..., Stream], bundle: Path, delivery: str
) -> None:
    """SystemExit is no exception of ours: taken at its word it would end the worker with exit code 0."""

    def leave() -> None:
        raise SystemExit

    stream = make_stream()
    publish(stream, 20)
    with stream.worker(Interrupted(Encoder.open(bundle), leave)) as running:
        error = running.ends_with()
    assert isinstance(error, StalledError)
    assert "an inference thread was ended by SystemExit" in str(error)
    assert stream.committed().get(0, 0) == 0
    finish_with_a_good_model(stream, bundle, delivery)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # as it is meant to be
def test_a_thread_that_dies(make_stream: Callable[..., Stream], bundle: Path, delivery: str) -> None:
    """Given an inference thread that is gone, with its window or before, then the worker does not wait for it."""
    threads: set[int] = set()
    stream = make_stream(settings={"model": {"path": str(bundle), "threads": 1}})
    publish(stream, 20)
    with stream.worker(Interrupted(Encoder.open(bundle), lambda: threads.add(threading.get_ident()))) as running:
        running.until(lambda: everything_is_committed(stream), "the first are labelled")
        # Python raises it in the thread as soon as that runs again: when it has taken its next window.
        for thread in threads:
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit)) == 1
        publish(stream, 100)
        error = running.ends_with()
    assert isinstance(error, StalledError)
    assert "an inference thread is gone" in str(error)
    finish_with_a_good_model(stream, bundle, delivery)


def test_a_thread_that_hangs_ends_the_worker_after_its_time(
    make_stream: Callable[..., Stream], bundle: Path, delivery: str
) -> None:
    gate = threading.Event()
    stream = make_stream(settings={"batch": {"timeout_seconds": 0.5}})
    publish(stream, 20)
    with stream.worker(Interrupted(Encoder.open(bundle), waiting_for(gate))) as running:
        error = running.ends_with()
    gate.set()
    assert isinstance(error, StalledError)
    assert "batch.timeout_seconds" in str(error)
    assert stream.committed().get(0, 0) == 0
    stream.settings = stream.settings.model_copy(update={"batch": type(stream.settings.batch)()})
    finish_with_a_good_model(stream, bundle, delivery)


def test_a_model_file_that_changes_on_disk(
    make_stream: Callable[..., Stream], bundle: Path, tmp_path: Path, delivery: str
) -> None:
    """A running worker has read its model and labels on; the next one refuses it by its hash, in one line."""
    stream = make_stream(
        settings={"observability": {"port": 0, "log_format": "json", "log_level": "info"}, "cache": {"results": 0}}
    )
    first = Process(stream.config, tmp_path / "first.log")
    try:
        first.until(first.is_ready, "ready")
        for change in (leave_alone, overwrite, cut_short, remove):
            for path in bundle.glob("*"):
                change(path)
            publish(stream, 30)
            first.until(lambda: everything_is_committed(stream), f"labelled after {change.__name__}")
        first.popen.send_signal(signal.SIGTERM)
        assert first.popen.wait(PATIENCE) == 0
    finally:
        first.popen.kill()
        first.popen.wait()
    nothing_is_lost(stream, delivery)
    results: dict[int, set[bytes]] = {}
    for record in stream.labelled:
        event = orjson.loads(record.value or b"")
        results.setdefault(event["id"] % 3, set()).add(orjson.dumps(event["classification"]))
    assert {number: len(different) for number, different in results.items()} == {0: 1, 1: 1, 2: 1}
    labels_are_right(stream)

    tiny_bundle.build(bundle)
    overwrite(bundle / "model.onnx.data")
    second = Process(stream.config, tmp_path / "second.log")
    assert second.popen.wait(PATIENCE) == 1
    (reason,) = [line["reason"] for line in second.lines() if line["level"] == "error"]
    assert f"{bundle / 'model.onnx.data'} is damaged or was changed" in reason


def leave_alone(_: Path) -> None:
    pass


def overwrite(path: Path) -> None:
    """Other bytes in the same file, as `cp` does it: whoever has it open or mapped sees them."""
    with path.open("r+b") as file:
        file.write(random.Random(5).randbytes(path.stat().st_size))  # noqa: S311 - any bytes will do


def cut_short(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()
