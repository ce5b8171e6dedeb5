"""A worker with a model of entailment, and one with two models, on a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import tiny_bundle
import tiny_entailment
from in_and_out import everything_is_committed, nothing_is_lost
from stream import Stream, header

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic

TEXTS = {"delivery": "where is my parcel", "refund": "我要退款", "account": "password login"}


def test_a_worker_labels_by_entailment(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, delivery: str
) -> None:
    """Given events with configured labels and with their own, one that the model cannot run, and one whose labels leave
    no room for a text, then each comes out, and only the last two as dead letters."""
    bundle = tiny_entailment.build(tmp_path / "bundle")
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery)
    stream.publish(*[orjson.dumps({"id": n, "text": f"{list(TEXTS.values())[n % 3]} {n}"}) for n in range(60)])
    stream.publish(
        orjson.dumps({"text": "parcel", "labels": ["money", "courier"]}),
        orjson.dumps({"text": "parcel boom"}),
        orjson.dumps({"text": "parcel", "labels": ["money", "a " * 45]}),
    )
    with stream.worker() as running:
        running.until(lambda: everything_is_committed(stream), "all is labelled and committed")
        assert running.metric("events_labelled_total", label_set="support@3") == 60
        identity, short_hash = running.model.identity, running.model.short_hash
    nothing_is_lost(stream, delivery, once=True)
    *labelled, own = stream.labelled
    for number, record in enumerate(labelled):
        result = orjson.loads(record.value or b"")["classification"]
        assert result["label"] == list(TEXTS)[number % 3]
        assert list(result) == ["label", "score", "labels", "label_set", "model", "truncated"]
        assert (result["model"], header(record, "classifier-model")) == (identity, short_hash.encode())
    assert orjson.loads(own.value or b"")["classification"]["label"] == "courier"
    boom, long = stream.dead_letters
    assert {header(letter, "classifier-error-code") for letter in (boom, long)} == {b"inference_failed"}
    message = header(long, "classifier-error-message")
    assert isinstance(message, bytes)
    assert message.startswith(b"label 2 of 2: its hypothesis has 49 tokens")


def test_a_worker_with_two_models_says_which_of_them_decided(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, delivery: str
) -> None:
    first = tiny_bundle.build(tmp_path / "first")
    second = tiny_entailment.build(tmp_path / "second")
    settings = {"model": {"path": str(first), "threads": 2, "cascade": {"path": str(second), "margin": 0.6}}}
    stream = Stream(bootstrap_servers, make_topic, tmp_path, first, delivery=delivery, settings=settings)
    stream.publish(*[orjson.dumps({"id": n, "text": text}) for n, text in enumerate([*TEXTS.values(), "parcel money"])])
    with stream.worker() as running:
        running.until(lambda: everything_is_committed(stream), "all is labelled and committed")
    results = [orjson.loads(record.value or b"")["classification"] for record in stream.labelled]
    assert [result["label"] for result in results[:3]] == list(TEXTS)
    assert [result["decided_by"] for result in results] == ["similarity"] * 3 + ["entailment"]
    assert {result["model"].count("@") for result in results} == {2}
    (model,) = {header(record, "classifier-model") for record in stream.labelled}
    assert isinstance(model, bytes)
    assert [len(part) for part in model.split(b"+")] == [8, 8]
