"""The sample tickets are what they say: varied, labelled by a label that exists, and broken where they claim to be."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stream_classifier.classify.labels import LabelSet, load_label_sets
from stream_classifier.events.decode import Decoder, Task
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.samples import Sample, label_set_path, load_samples
from stream_classifier.settings import InputSettings, OutputSettings

REPOSITORY = Path(__file__).parent.parent
SAMPLES = load_samples()
GOOD = [sample for sample in SAMPLES if sample.broken is None]
BROKEN = [sample for sample in SAMPLES if sample.broken is not None]
BROKEN_ON_PURPOSE = {
    "field_taken",
    "labels_invalid",
    "not_an_object",
    "not_json",
    "not_utf8",
    "text_blank",
    "text_missing",
    "text_not_a_string",
    "tombstone",
}


def event(sample: Sample) -> dict[str, Any]:
    assert sample.value is not None
    found = json.loads(sample.value)
    assert isinstance(found, dict)
    return found


def label_set() -> LabelSet:
    with label_set_path() as path:
        return load_label_sets(path)["support"]


def decode(sample: Sample) -> object:
    decoder = Decoder(InputSettings(topics=("tickets",)), OutputSettings(topic="tickets.labelled"))
    return decoder.decode(Record("tickets", 0, 0, sample.id.encode(), sample.value))


def test_there_are_at_least_three_hundred_good_samples() -> None:
    assert len(GOOD) >= 300


def test_chinese_and_english_are_well_represented_and_others_are_there() -> None:
    languages = Counter(event(sample)["lang"] for sample in GOOD)
    assert languages["zh"] >= 120
    assert languages["en"] >= 120
    assert {"es", "fr", "de", "ja", "pt"} <= languages.keys()


def test_ids_are_unique() -> None:
    assert len({sample.id for sample in SAMPLES}) == len(SAMPLES)


def test_a_good_sample_carries_its_id() -> None:
    assert [event(sample)["id"] for sample in GOOD] == [sample.id for sample in GOOD]


def test_texts_are_distinct_even_without_case_and_spaces() -> None:
    counts = Counter("".join(event(sample)["text"].casefold().split()) for sample in GOOD)
    assert [text for text, count in counts.items() if count > 1] == []


def test_texts_are_from_a_word_to_a_long_mail() -> None:
    lengths = [len(event(sample)["text"]) for sample in GOOD]
    assert min(lengths) == 2
    assert 500 <= max(lengths) <= 1500


def test_each_gold_label_is_one_that_the_event_can_get() -> None:
    names = label_set().names
    assert [sample.id for sample in GOOD if sample.gold not in event(sample).get("labels", names)] == []


def test_every_label_has_enough_samples() -> None:
    golds = Counter(sample.gold for sample in GOOD)
    assert {name: golds[name] for name in label_set().names if golds[name] < 15} == {}


def test_some_events_bring_their_own_labels() -> None:
    assert sum("labels" in event(sample) for sample in GOOD) >= 2


def test_labels_are_mixed_so_that_the_head_of_the_file_shows_them_all() -> None:
    head = {sample.gold for sample in GOOD[:60]}
    assert set(label_set().names) - head == set()
    longest_run = max(len(list(run)) for _, run in itertools.groupby(sample.gold for sample in GOOD))
    assert longest_run <= 3


def test_what_is_published_is_the_compact_line_without_its_gold_label() -> None:
    lines = (REPOSITORY / "stream_classifier" / "samples" / "tickets.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    for line, sample in zip(lines, SAMPLES, strict=True):
        if sample.broken is not None:
            continue
        assert sample.value is not None
        member = f',"gold":{json.dumps(sample.gold, ensure_ascii=False)}'
        assert line.count(member) == 1
        assert sample.value.decode() == line.replace(member, "")
        assert "gold" not in event(sample)


def test_numbers_are_published_as_they_were_written() -> None:
    assert any(b":39.90," in (sample.value or b"") for sample in GOOD)


def test_a_good_sample_decodes_to_its_text_and_labels() -> None:
    for sample in GOOD:
        own = event(sample).get("labels")
        assert decode(sample) == Task(event(sample)["text"], None if own is None else tuple(own)), sample.id


@pytest.mark.parametrize("sample", BROKEN, ids=lambda sample: f"{sample.id}-{sample.broken}")
def test_a_broken_sample_is_refused_for_the_reason_it_names(sample: Sample) -> None:
    refusal = decode(sample)
    assert isinstance(refusal, Refusal)
    assert refusal.code == sample.broken
    assert sample.gold is None


def test_every_way_to_break_a_sample_is_there_and_they_are_few_and_spread() -> None:
    places = [place for place, sample in enumerate(SAMPLES) if sample.broken is not None]
    assert {sample.broken for sample in BROKEN} == BROKEN_ON_PURPOSE
    assert 12 <= len(places) <= 15
    assert min(after - before for before, after in itertools.pairwise(places)) > 10


def test_the_label_set_is_single_and_every_label_is_described() -> None:
    found = label_set()
    assert (found.identity, found.mode) == ("support@1", "single")
    assert 9 <= len(found.labels) <= 11
    assert [label.name for label in found.labels if label.description is None] == []


def test_the_label_set_of_the_samples_is_the_one_in_config() -> None:
    with label_set_path() as path:
        assert path.read_bytes() == (REPOSITORY / "config" / "labels" / "support.yaml").read_bytes()
