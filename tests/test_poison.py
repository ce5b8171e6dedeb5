"""The event that kills the process is found by the marks that its victims left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_classifier.ledger import Partition
from stream_classifier.marks import Mark, read_mark
from stream_classifier.poison import PoisonWatch

ME, OTHER = "0f3a99c1", "77aa0b1e"
A, B = Partition("tickets", 0), Partition("tickets", 1)


@given(
    st.builds(
        lambda partitions, by, tried: Mark(partitions, by, *(tried if by and tried else (None, 0))),
        st.integers(0, 10**6),
        st.sampled_from(["", "0f3a99c1"]),
        st.none() | st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 1000)),
    )
)
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert read_mark(str(mark)) == mark
    assert len(str(mark)) < 100, "the broker keeps 4,096 bytes"


@given(st.none() | st.text())
def test_what_another_program_wrote_says_nothing(text: str | None) -> None:
    assert read_mark(text) == Mark()


class Lives:
    """Lives of workers, one after the other, on one partition of which one event is deadly."""

    def __init__(self, *, deadly: int, care: int = 50) -> None:
        self.deadly = deadly
        self.care = care
        self.offset = 0
        self.mark = str(Mark(6))
        self.put_aside: list[int] = []

        self.lives = 0

    def live(self, events: int, *, batch: int = 10) -> bool:
        """Handle events until they are all done, or until the deadly one is in the model: whether that was survived."""
        self.lives += 1
        watch = PoisonWatch(self.care, f"life{self.lives}")
        watch.assign(A, read_mark(self.mark))
        self.mark = str(watch.mark(A))
        while self.offset < events:
            if watch.is_poison(A, self.offset):
                self.put_aside.append(self.offset)
                self.offset += 1
                continue
            if watch.careful:
                self.mark = str(watch.try_alone(A, self.offset))
                if self.offset == self.deadly:
                    return False
                watch.survived(A)
                self.offset += 1
                self.mark = str(watch.mark(A))
            elif self.deadly in range(self.offset, self.offset + batch):
                return False
            else:
                self.offset += batch
        self.mark = str(Mark(watch.mark(A).partitions))  # handed over
        return True


@pytest.mark.parametrize("deadly", [0, 4, 9, 37])
def test_an_event_that_kills_the_process_is_put_aside_after_three_deaths(deadly: int) -> None:
    lives = Lives(deadly=deadly)
    assert [lives.live(100) for _ in range(4)] == [False, False, False, True]
    assert lives.put_aside == [deadly]
    assert read_mark(lives.mark) == Mark(6)


def test_a_worker_that_was_only_killed_costs_no_event() -> None:
    watch = PoisonWatch(3, ME)
    assert watch.assign(A, Mark(6, OTHER))
    for offset in range(3):
        assert watch.careful
        watch.try_alone(A, offset)
        watch.survived(A)
    assert not watch.careful
    assert watch.mark(A) == Mark(6, ME)


def test_care_ends_with_the_partition() -> None:
    watch = PoisonWatch(100, ME)
    watch.assign(A, Mark(6, OTHER))
    watch.reached_end(A, 2)
    for offset in range(2):
        watch.try_alone(A, offset)
        watch.survived(A)
    assert not watch.careful


def test_care_ends_at_once_where_there_is_nothing_to_read() -> None:
    watch = PoisonWatch(100, ME)
    watch.assign(A, Mark(6, OTHER))
    watch.reached_end(A, 0)
    assert not watch.careful


def test_the_neighbours_of_a_partition_in_care_are_not_suspected() -> None:
    watch = PoisonWatch(100, ME)
    watch.assign(A, Mark(6, OTHER))
    watch.assign(B, Mark(6))
    assert watch.careful
    assert watch.try_alone(B, 7) is None
    watch.survived(B)
    assert watch.mark(B) == Mark(6, ME)


def test_deaths_with_different_events_blame_none() -> None:
    """Somebody who kills workers again and again does not get an event put aside that merely was there."""
    mark = Mark(6)
    for offset in range(20):
        watch = PoisonWatch(100, f"life{offset}")
        watch.assign(A, mark)
        assert not watch.is_poison(A, offset)
        mark = watch.try_alone(A, offset) or watch.mark(A)
    assert mark.times == 1


def test_a_revoked_partition_is_forgotten() -> None:
    watch = PoisonWatch(100, ME)
    watch.assign(A, Mark(6, OTHER, trying=5, times=2))
    assert watch.is_poison(A, 5)
    watch.revoke([A])
    assert not watch.is_poison(A, 5)
    assert not watch.careful


def test_a_worker_that_lost_its_partitions_and_got_them_back_suspects_nothing() -> None:
    watch = PoisonWatch(100, ME)
    watch.assign(A, Mark(6))
    mark = watch.mark(A)
    watch.revoke([A])
    assert not watch.assign(A, mark)
    assert not watch.careful


def test_care_is_for_as_many_events_as_one_worker_can_have_had_whatever_their_partitions() -> None:
    watch = PoisonWatch(4, ME)
    for partition in (A, B):
        watch.assign(partition, Mark(6, OTHER))
    for offset in range(2):
        for partition in (A, B):
            assert watch.careful
            watch.try_alone(partition, offset)
            watch.survived(partition)
    assert not watch.careful
