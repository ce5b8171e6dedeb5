"""The gateway's parts that know no clock and no network, against models of them that are simple and slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_classifier.classify.labels import Label, LabelSet
from stream_classifier.gateway.asked import Reader
from stream_classifier.gateway.places import Places
from stream_classifier.gateway.problems import Problem
from stream_classifier.gateway.token_bucket import TokenBucket
from stream_classifier.gateway.waiting import Place, Waiting
from stream_classifier.windows import Windows

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

STEPS = st.floats(min_value=0, max_value=3)


@given(steps=st.lists(STEPS, max_size=60), per_second=st.floats(min_value=0.05, max_value=50), burst=st.integers(1, 10))
def test_a_bucket_never_gives_more_than_it_may_and_says_when_there_will_be_more(
    steps: list[float], per_second: float, burst: int
) -> None:
    bucket, now = TokenBucket(per_second, burst, 0.0), 0.0
    taken: list[float] = []
    for step in steps:
        now += step
        wait = bucket.take(now)
        if wait == 0:
            taken.append(now)
        else:
            assert 0 < wait <= 1 / per_second
            # As said: not yet a little before that, and then.
            assert bucket.take(now + wait * 0.99 - 1e-9) > 0
            now += wait + 1e-6
            assert bucket.take(now) == 0
            taken.append(now)
    for begin in range(len(taken)):
        for end in range(begin, len(taken)):
            most = burst + (taken[end] - taken[begin]) * per_second
            assert end - begin + 1 <= most + 1e-3


@given(burst=st.integers(1, 10), pause=st.floats(min_value=0, max_value=1e6))
def test_a_bucket_holds_no_more_than_its_burst_after_a_pause_however_long(burst: int, pause: float) -> None:
    bucket = TokenBucket(1000.0, burst, 0.0)
    assert [bucket.take(pause) == 0 for _ in range(burst + 1)] == [True] * burst + [False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1.0, 1, 100.0)
    assert bucket.take(100.0) == 0
    assert bucket.take(50.0) == 1
    assert bucket.take(100.5) == 0.5
    assert bucket.take(101.0) == 0


@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 5)),
            st.tuples(st.just("give up"), st.integers(0, 30)),
            st.tuples(st.just("window"), st.booleans()),
        ),
        max_size=80,
    )
)
def test_what_was_given_up_is_never_handed_out_and_the_rest_is_in_its_order(actions: list[tuple[str, Any]]) -> None:
    """Given anything that is added, given up and handed out, then each is handed out once, or given up, in order."""
    windows: Windows[Place[int]] = Windows(max_events=4, max_cost=10, max_wait=0)
    waiting, places, model, number, now = Waiting(windows), list[Place[int]](), list[int](), 0, 0.0
    for action, value in actions:
        now += 1
        if action == "add":
            places.append(waiting.add(number, value, now))
            model.append(number)
            number += 1
        elif action == "give up" and places:
            place = places[value % len(places)]
            waiting.give_up(place)
            if place.item in model:
                model.remove(place.item)
        elif action == "window":
            window = waiting.window(now, idle=value)
            assert len(window) <= 4
            assert model[: len(window)] == window
            del model[: len(window)]
            if value and not window:
                assert not model
        assert len(waiting) == len(model)
        assert [place.item for place in places if place.waits] == model
        assert len(windows) <= 2 * len(model) + 1, "what was given up takes no room for ever"
    assert (waiting.seconds_to_close(now) is None) == (not model)


@given(bound=st.integers(1, 5), actions=st.lists(st.booleans(), max_size=40))
def test_no_more_places_are_taken_than_there_are(bound: int, actions: list[bool]) -> None:
    places = Places(bound, retry_after=2.5)
    taken: list[AbstractContextManager[None]] = []
    for take in actions:
        if take and len(taken) == bound:
            with pytest.raises(Problem) as raised, places.one():
                pytest.fail("there is none left")
            assert (raised.value.status, raised.value.headers) == (503, {"Retry-After": "3"})
        elif take:
            one = places.one()
            one.__enter__()
            taken.append(one)
        elif taken:
            taken.pop().__exit__(None, None, None)
        assert places.taken == len(taken)


def label_set(name: str, version: int) -> LabelSet:
    return LabelSet(name, version, "single", None, (Label("a"), Label("b")))


def test_without_a_default_a_label_set_has_to_be_named_and_the_document_says_so() -> None:
    sets = {"one": label_set("one", 1), "two": label_set("two", 7)}
    reader = Reader(sets, None, remembered=4)
    with pytest.raises(Problem) as raised:
        reader.read(b'{"text": "x"}')
    assert raised.value.code == "label_set_missing"
    for name, found in {"one": "one@1", "two": "two@7", "two@7": "two@7"}.items():
        assert reader.read(orjson.dumps({"text": "x", "label_set": name})).label_set.identity == found
    with pytest.raises(Problem):
        reader.read(b'{"text": "x", "label_set": "two@6"}')
    by_name = reader.schema["oneOf"][1]
    assert by_name["required"] == ["text", "label_set"]
    assert by_name["properties"]["label_set"]["enum"] == ["one", "one@1", "two", "two@7"]
    with_default = Reader(sets, sets["two"], remembered=4)
    assert with_default.read(b'{"text": "x"}').label_set is sets["two"]
    assert with_default.schema["oneOf"][1]["required"] == ["text"]


def test_the_same_labels_are_the_same_label_set_and_multi_is_another() -> None:
    reader = Reader({}, None, remembered=4)
    asked = b'{"text": "x", "labels": ["a", "b"]}'
    assert reader.read(asked).label_set is reader.read(asked).label_set
    multi = reader.read(b'{"text": "x", "labels": ["a", "b"], "multi": true}').label_set
    assert (multi.mode, reader.read(asked).label_set.mode) == ("multi", "single")
