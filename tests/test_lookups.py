"""What is asked in a thread of its own: one answer that does not come keeps nothing else waiting."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from stream_classifier.errors import RegistryError
from stream_classifier.registry.lookups import Lookups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def lookups() -> Iterator[Callable[..., Lookups[str, str]]]:
    made: list[Lookups[str, str]] = []

    def make(ask: Callable[[str], str], patience: float = 60) -> Lookups[str, str]:
        made.append(Lookups(lambda key: (ask(key), 60), kept=10, patience=patience, retried=lambda: None))
        return made[-1]

    yield make
    for one in made:
        one.close()


def answer(mine: Lookups[str, str], key: str) -> str:
    end = time.monotonic() + 10
    while (found := mine.get(key)) is None:
        assert time.monotonic() < end, f"no answer for {key}"
        time.sleep(0.002)
        mine.has_news()
    return found


def test_a_key_without_an_answer_does_not_keep_the_others_waiting(lookups: Callable[..., Lookups[str, str]]) -> None:
    mended = threading.Event()

    def ask(key: str) -> str:
        if key == "bad" and not mended.is_set():
            raise RegistryError("HTTP 500")
        return key.upper()

    mine = lookups(ask)
    assert mine.get("bad") is None
    for key in ("a", "b", "c"):
        assert answer(mine, key) == key.upper()
    assert mine.get("bad") is None
    assert mine.trouble == "HTTP 500", "others' answers do not make it well"
    mended.set()
    assert answer(mine, "bad") == "BAD"
    assert mine.trouble is None


def test_a_key_without_an_answer_is_given_up_whatever_the_others_get(
    lookups: Callable[..., Lookups[str, str]],
) -> None:
    def ask(key: str) -> str:
        if key == "bad":
            raise RegistryError("HTTP 500")
        return key

    mine = lookups(ask, patience=0.3)
    mine.get("bad")
    with pytest.raises(RegistryError, match=r"HTTP 500; asked for 0\.3 s"):
        _ = [answer(mine, str(number)) for number in range(10_000)]


def test_an_answer_that_never_ends_is_given_up_too(lookups: Callable[..., Lookups[str, str]]) -> None:
    ended = threading.Event()

    def ask(key: str) -> str:
        ended.wait(10)
        return key

    mine = lookups(ask, patience=0.05)
    with pytest.raises(RegistryError, match="does not finish its answer"):
        answer(mine, "a")
    ended.set()


def test_what_ends_the_thread_is_raised_in_the_workers(lookups: Callable[..., Lookups[str, str]]) -> None:
    def ask(key: str) -> str:
        raise LookupError(key)

    with pytest.raises(LookupError):
        answer(lookups(ask), "a")
