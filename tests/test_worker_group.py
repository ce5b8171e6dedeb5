"""Several workers in one group on a real broker: they share, hand over, and commit nothing of one another's."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
from stream import Stream, header, offsets_are_in_order

from stream_classifier.errors import KafkaError

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic


@pytest.fixture
def make_stream(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, delivery: str) -> Any:
    bundle = tiny_bundle.build(tmp_path / "bundle")

    def make(**named: Any) -> Stream:
        return Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, **named)

    return make


def publish(stream: Stream, count: int) -> None:
    for number in range(count):
        stream.publish(orjson.dumps({"id": number, "text": "where is my parcel"}), key=str(number % 40).encode())


def sources(stream: Stream) -> Counter[bytes | str | None]:
    return Counter(header(record, "classifier-source") for record in stream.labelled)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_that_joins_and_one_that_leaves_lose_and_repeat_nothing(
    protocol: str, make_stream: Any, delivery: str
) -> None:
    """Orderly changes of the assignment: what is in flight is settled and committed before it is handed over."""
    seldom = 60_000 if delivery == "at_least_once" else 4_000  # a transaction has its own time
    stream = make_stream(partitions=6, settings={"kafka": {"group_protocol": protocol, "commit_interval_ms": seldom}})
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(stream.worker())
        first.until(lambda: first.metric("assigned_partitions") == 6, "the first has all partitions")
        publish(stream, 600)
        with stream.worker() as second:
            second.until(lambda: second.metric("assigned_partitions") == 3, "the second has its half")
            publish(stream, 600)
            second.until(lambda: second.metric("events_labelled_total", label_set="support@3") > 0, "it works")
            first.check()
        first.until(lambda: first.metric("assigned_partitions") == 6, "the first has all partitions again")
        publish(stream, 300)
        stream.await_outcomes(1500, first.check)
        assert first.metric("rebalances_total", kind="revoked") >= 1
        assert first.metric("rebalances_total", kind="lost") == 0
    counted = sources(stream)
    assert len(counted) == 1500
    assert set(counted.values()) == {1}, "an orderly hand-over repeats nothing"
    assert offsets_are_in_order(stream.labelled)
    assert stream.committed() == {number: end for number, end in stream.ends(stream.input).items() if end}


def test_a_spare_worker_without_partitions_is_ready(make_stream: Any) -> None:
    stream = make_stream(partitions=1)
    with stream.worker() as first:
        first.until(lambda: first.metric("assigned_partitions") == 1, "the first has the partition")
        with stream.worker() as spare:
            spare.until(lambda: spare.health.ready() is None, "the spare one is ready")
            assert spare.metric("assigned_partitions") + first.metric("assigned_partitions") <= 1


def test_lag_is_shown_for_what_is_assigned_only(make_stream: Any) -> None:
    stream = make_stream(partitions=2)

    def shown(worker: Any) -> set[str]:
        return {
            sample.labels["partition"]
            for family in worker.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "stream_classifier_consumer_lag"
        }

    with stream.worker() as first:
        first.until(lambda: shown(first) == {"0", "1"}, "both")
        with stream.worker() as second:
            second.until(lambda: len(shown(second)) == 1, "one each")
            first.until(lambda: len(shown(first)) == 1, "one each")
            assert shown(first) | shown(second) == {"0", "1"}


def test_static_membership_keeps_its_partitions_over_a_restart(make_stream: Any) -> None:
    stream = make_stream(partitions=2, settings={"kafka": {"instance_id": "worker-0"}})
    publish(stream, 50)
    stream.run(50)
    publish(stream, 50)
    begin = time.monotonic()
    stream.run(100)
    assert set(sources(stream).values()) == {1}
    assert time.monotonic() - begin < 30, "the member of the same name takes its place without waiting it out"


def test_a_partition_that_was_paused_when_it_was_taken_is_read_again_when_it_comes_back(make_stream: Any) -> None:
    """The client remembers a pause beyond the assignment in which a worker at its bound made it."""
    settings = {"batch": {"max_events": 1, "max_in_flight": 1, "max_tokens": 1}, "cache": {"results": 0}}
    stream = make_stream(partitions=2, settings=settings)
    publish(stream, 24)
    with stream.worker() as first:
        first.until(lambda: first.in_flight > 0, "at work")
        first.pause_everything()
        first.until(lambda: first.metric("paused") == 2, "everything is paused")
        with stream.worker() as second:
            second.until(lambda: second.metric("assigned_partitions") == 1, "one is taken")
        first.pause_as_usual()
        stream.await_outcomes(24, first.check)
    assert len(sources(stream)) == 24


def test_the_elder_of_two_workers_of_one_name_ends(make_stream: Any) -> None:
    stream = make_stream(partitions=2, settings={"kafka": {"instance_id": "worker-0"}})
    with stream.worker() as elder:
        elder.until(lambda: elder.metric("assigned_partitions") == 2, "it has both partitions")
        with stream.worker() as younger:
            error = elder.ends_with()
            publish(stream, 20)
            stream.await_outcomes(20, younger.check)
    assert isinstance(error, KafkaError)
    assert len(sources(stream)) == 20
