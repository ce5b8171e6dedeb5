"""Work goes out and comes back, whatever happens to it."""

from __future__ import annotations

import queue
import threading

import pytest

from stream_classifier.inference_threads import Done, InferenceThreads


def test_each_piece_comes_back_under_its_number() -> None:
    threads: InferenceThreads[int, int] = InferenceThreads(lambda number: number * number, 2)
    numbers = {threads.start(value, now=float(value)): value for value in range(20)}
    came: dict[int, int | None] = {}
    while len(came) < 20:
        came.update({done.number: done.result for done in threads.done(wait=5)})
    assert came == {number: value * value for number, value in numbers.items()}
    assert threads.out == {}
    assert threads.done() == []


def test_one_piece_more_than_there_are_threads_may_be_out() -> None:
    gate = threading.Event()
    threads: InferenceThreads[int, bool] = InferenceThreads(lambda _: gate.wait(30), 2)
    states = [(threads.idle, threads.room)]
    for piece in range(3):
        threads.start(piece, now=piece)
        states.append((threads.idle, threads.room))
    assert states == [(True, True), (True, True), (False, True), (False, False)]
    assert sorted(threads.out.values()) == [0, 1, 2]
    gate.set()
    came = 0
    while came < 3:
        came += len(threads.done(wait=5))
    assert threads.idle


@pytest.mark.parametrize("kind", [ValueError, MemoryError, SystemExit, KeyboardInterrupt])
def test_whatever_is_raised_comes_back_and_the_thread_goes_on(kind: type[BaseException]) -> None:
    def work(number: int) -> int:
        if number == 0:
            raise kind
        return number

    threads: InferenceThreads[int, int] = InferenceThreads(work, 1)
    threads.start(0, now=0)
    (failed,) = threads.done(wait=5)
    assert isinstance(failed.error, kind)
    assert failed.result is None
    threads.start(1, now=0)
    (done,) = threads.done(wait=5)
    assert (done.result, done.error) == (1, None)


def test_who_wants_to_be_told_is_told_when_a_piece_can_be_taken_back() -> None:
    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    threads: InferenceThreads[int, int] = InferenceThreads(lambda value: 10 // value, 1, lambda: told.put(len(came)))
    came: list[Done[int]] = []
    for value in (5, 0):  # also when it raised
        threads.start(value, now=0)
        told.get(timeout=30)
        came += threads.done()
    assert [done.result for done in came] == [2, None]
