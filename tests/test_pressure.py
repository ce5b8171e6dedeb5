"""What may be under way, and who has to wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_classifier.ledger import Partition
from stream_classifier.pressure import Pressure

P = [Partition("tickets", number) for number in range(4)]
NONE: frozenset[Partition] = frozenset()


def pressure() -> Pressure:
    return Pressure(max_events=100, max_bytes=1000, window=10, patience=0.2)


def test_below_the_bound_there_is_room_for_the_rest() -> None:
    assert pressure().allow({P[0]: 30}, 30, 10, now=0) == (70, NONE)


def test_a_part_of_the_bound_is_kept_for_the_others_when_there_are_others() -> None:
    assert pressure().allow({P[0]: 30, P[1]: 0}, 30, 10, now=0) == (45, NONE)


def test_at_the_bound_polling_stops_and_partitions_pause_only_when_it_lasts() -> None:
    under = pressure()
    assert under.allow({P[0]: 100}, 100, 10, now=0) == (0, NONE)
    assert under.allow({P[0]: 100}, 100, 10, now=0.1) == (0, NONE)
    assert under.allow({P[0]: 100}, 100, 10, now=0.2) == (0, frozenset({P[0]}))


def test_a_short_moment_below_the_bound_starts_patience_anew() -> None:
    under = pressure()
    under.allow({P[0]: 100}, 100, 10, now=0)
    under.allow({P[0]: 99}, 99, 10, now=0.15)
    assert under.allow({P[0]: 100}, 100, 10, now=0.25) == (0, NONE)


def test_paused_partitions_go_on_when_a_window_has_room() -> None:
    under = pressure()
    under.allow({P[0]: 100}, 100, 10, now=0)
    under.allow({P[0]: 100}, 100, 10, now=1)
    assert under.allow({P[0]: 91}, 91, 10, now=2) == (0, frozenset({P[0]}))
    assert under.allow({P[0]: 90}, 90, 10, now=3) == (10, NONE)


def test_bytes_bound_as_events_do() -> None:
    assert pressure().allow({P[0]: 5}, 5, 1000, now=0).events == 0


def test_a_partition_over_its_share_waits_and_the_others_have_the_reserve() -> None:
    """Given a partition whose first event is slow, when the bound is reached for long, then only it is paused."""
    under = pressure()
    assert under.allow({P[0]: 70, P[1]: 5}, 75, 10, now=0) == (0, NONE)
    assert under.allow({P[0]: 70, P[1]: 5}, 75, 10, now=0.2) == (0, frozenset({P[0]}))
    assert under.allow({P[0]: 70, P[1]: 5}, 75, 10, now=0.3) == (25, frozenset({P[0]}))
    assert under.allow({P[0]: 70, P[1]: 0}, 70, 10, now=9.0) == (30, frozenset({P[0]}))


def test_it_goes_on_when_it_is_well_below_its_share() -> None:
    under = pressure()
    under.allow({P[0]: 70, P[1]: 5}, 75, 10, now=0)
    under.allow({P[0]: 70, P[1]: 5}, 75, 10, now=1)
    assert under.allow({P[0]: 26, P[1]: 5}, 31, 10, now=2).paused == frozenset({P[0]})
    assert under.allow({P[0]: 25, P[1]: 5}, 30, 10, now=3).paused == NONE


def test_when_the_reserve_is_used_up_all_pause() -> None:
    under = pressure()
    under.allow({P[0]: 70, P[1]: 5}, 75, 10, now=0)
    under.allow({P[0]: 70, P[1]: 5}, 75, 10, now=1)
    under.allow({P[0]: 70, P[1]: 30}, 100, 10, now=2)
    assert under.allow({P[0]: 70, P[1]: 30}, 100, 10, now=3) == (0, frozenset(P[:2]))


@given(counts=st.lists(st.lists(st.integers(0, 60), min_size=4, max_size=4), max_size=30))
def test_never_more_than_the_bound_and_never_everyone_paused_with_room(counts: list[list[int]]) -> None:
    under = pressure()
    for now, row in enumerate(counts):
        lanes = dict(zip(P, row, strict=True))
        allowance = under.allow(lanes, sum(row), 0, now=now)
        assert allowance.events == 0 or allowance.events + sum(row) <= 100
        if allowance.events:
            assert len(allowance.paused) < len(lanes)


@given(slow=st.integers(0, 3), ticks=st.lists(st.integers(0, 40), max_size=60))
def test_a_blocked_partition_never_keeps_the_others_out(slow: int, ticks: list[int]) -> None:
    """The blocked one gets whatever is allowed and settles nothing; the others still get something again and again."""
    under = pressure()
    held, now = 0, 0.0
    for tick in ticks:
        now += tick / 10
        lanes = dict.fromkeys(P, 0) | {P[slow]: held}
        allowance = under.allow(lanes, held, 0, now=now)
        if P[slow] not in allowance.paused:
            held += allowance.events
    for later in (0.3, 0.6):
        lanes = dict.fromkeys(P, 0) | {P[slow]: held}
        allowance = under.allow(lanes, held, 0, now=now + later)
    assert under.allow(lanes, held, 0, now=now + 0.9).events > 0
