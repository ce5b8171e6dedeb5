"""The ledger against a tiny model: a list of every event in order, with what happened to each."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stream_classifier.ledger import Entry, Ledger, Partition

A, B = Partition("tickets", 0), Partition("tickets", 1)


@dataclass
class Row:
    """One event of the model."""

    offset: int
    entry: Entry[int, str]
    settled: bool = False
    released: bool = False
    acknowledged: bool = False


@dataclass
class Assignment:
    """One assignment of one partition in the model."""

    rows: list[Row] = field(default_factory=list)
    next_offset: int = 0
    start: int | None = None
    position: int | None = None

    def low_water(self) -> int | None:
        """By definition: the first event that is not acknowledged, else how far was read."""
        pending = [index for index, row in enumerate(self.rows) if not row.acknowledged]
        if not pending:
            return self.position
        return self.rows[pending[0] - 1].offset + 1 if pending[0] else self.start

    def forget_what_is_done(self) -> None:
        """With nothing in flight the mark is the position, and stays at least there."""
        if all(row.acknowledged for row in self.rows):
            self.rows.clear()
            self.start = self.position


class LedgerMachine(RuleBasedStateMachine):
    """Random admissions, outcomes, acknowledgements, rollbacks, revocations, and late returns."""

    @initialize()
    def begin(self) -> None:
        self.ledger: Ledger[int, str] = Ledger()
        self.assigned: dict[Partition, Assignment] = {}
        self.gone: list[Row] = []
        self.sent: dict[Partition, int] = {}

    def _rows(self) -> list[Row]:
        return [row for assignment in self.assigned.values() for row in assignment.rows]

    @rule(partition=st.sampled_from([A, B]), at=st.integers(0, 50))
    def assign(self, partition: Partition, at: int) -> None:
        if partition in self.assigned:
            with pytest.raises(ValueError, match="assigned already"):
                self.ledger.assign(partition)
            return
        self.ledger.assign(partition)
        self.assigned[partition] = Assignment(next_offset=at)
        self.sent.pop(partition, None)

    @precondition(lambda self: self.assigned)
    @rule(data=st.data(), hole=st.integers(0, 3))
    def admit(self, data: st.DataObject, hole: int) -> None:
        partition = data.draw(st.sampled_from(sorted(self.assigned)))
        assignment, lane = self.assigned[partition], self.ledger.lanes[partition]
        offset = assignment.next_offset + hole
        entry = self.ledger.admit(lane, offset, offset, 10)
        assignment.rows.append(Row(offset, entry))
        if assignment.start is None:
            assignment.start = offset
        assignment.next_offset = assignment.position = offset + 1

    @precondition(lambda self: self.assigned)
    @rule(data=st.data(), ahead=st.integers(0, 3))
    def read_up_to(self, data: st.DataObject, ahead: int) -> None:
        partition = data.draw(st.sampled_from(sorted(self.assigned)))
        assignment = self.assigned[partition]
        position = assignment.next_offset + ahead
        self.ledger.read_up_to(self.ledger.lanes[partition], position)
        assignment.next_offset = position
        assignment.position = position
        assignment.forget_what_is_done()

    @precondition(lambda self: any(not row.settled for row in self._rows()))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from([row for row in self._rows() if not row.settled]))
        self.ledger.settle(row.entry, "label")
        row.settled = True

    @rule()
    def release(self) -> None:
        given = self.ledger.release()
        expected: list[Entry[int, str]] = []
        for assignment in self.assigned.values():
            for row in assignment.rows:
                if not row.settled:
                    break
                if not row.released:
                    row.released = True
                    expected.append(row.entry)
        assert sorted(map(id, given)) == sorted(map(id, expected))
        for partition in (A, B):
            offsets = [entry.offset for entry in given if entry.lane.partition == partition]
            assert offsets == sorted(offsets)

    @precondition(lambda self: any(row.released and not row.acknowledged for row in self._rows()))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        candidates = [row for row in self._rows() if row.released and not row.acknowledged]
        rows = data.draw(st.lists(st.sampled_from(candidates), min_size=1, unique_by=id))
        self.ledger.acknowledge([row.entry for row in rows])
        for row in rows:
            row.acknowledged = True
        for assignment in self.assigned.values():
            assignment.forget_what_is_done()

    @rule()
    def rollback(self) -> None:
        self.ledger.rollback()
        for assignment in self.assigned.values():
            done = 0
            while done < len(assignment.rows) and assignment.rows[done].acknowledged:
                done += 1
            for row in assignment.rows[done:]:
                row.released = row.acknowledged = False

    @rule(goes_through=st.booleans())
    def transaction(self, goes_through: bool) -> None:
        """Everything that is released and its offsets: committed together, or rolled back together."""
        offsets = self.ledger.committable_with_released()
        for partition, assignment in self.assigned.items():
            pending = [row for row in assignment.rows if not row.acknowledged]
            left = next((index for index, row in enumerate(assignment.rows) if not row.released), None)
            if left is None:
                expected = assignment.position
            else:
                expected = assignment.rows[left - 1].offset + 1 if left else assignment.start
            if any(row.released for row in pending):
                assert offsets[partition] == expected, "results never go without their offset"
            elif partition in offsets:
                assert offsets[partition] == expected
        if not goes_through:
            self.rollback()
            return
        released = [row for row in self._rows() if row.released and not row.acknowledged]
        self.ledger.acknowledge([row.entry for row in released])
        for row in released:
            row.acknowledged = True
        self.ledger.committed(offsets)
        for partition, assignment in self.assigned.items():
            assignment.forget_what_is_done()
            if partition in offsets:
                assert self.ledger.lanes[partition].low_water == offsets[partition]
        self.sent |= offsets

    @precondition(lambda self: self.assigned)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(sorted(self.assigned)))
        self.ledger.revoke([partition])
        self.gone.extend(self.assigned.pop(partition).rows)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def late_return(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.gone))
        before = {partition: lane.low_water for partition, lane in self.ledger.lanes.items()}
        self.ledger.settle(row.entry, "late")
        self.ledger.acknowledge([row.entry])
        assert before == {partition: lane.low_water for partition, lane in self.ledger.lanes.items()}
        self.release()  # and nothing of it is given out

    @rule()
    def commit(self) -> None:
        for partition, offset in self.ledger.committable().items():
            assignment = self.assigned[partition]
            pending = [row.offset for row in assignment.rows if not row.acknowledged]
            assert not pending or offset <= pending[0], "an offset is committed past an unacknowledged event"
            assert offset > self.sent.get(partition, -1), "the committed offset goes back"
            self.sent[partition] = offset

    @invariant()
    def low_water_marks_are_the_models(self) -> None:
        for partition, assignment in self.assigned.items():
            assert self.ledger.lanes[partition].low_water == assignment.low_water()

    @invariant()
    def counts_agree(self) -> None:
        expected = 0
        for partition, assignment in self.assigned.items():
            done = 0
            while done < len(assignment.rows) and assignment.rows[done].acknowledged:
                done += 1
            pending = len(assignment.rows) - done
            assert self.ledger.lanes[partition].in_flight == pending
            expected += pending
        assert self.ledger.in_flight == expected
        assert self.ledger.bytes_in_flight == 10 * expected


LedgerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase


def admitted(ledger: Ledger[int, str], *offsets: int) -> list[Entry[int, str]]:
    if A not in ledger.lanes:
        ledger.assign(A)
    return [ledger.admit(ledger.lanes[A], offset, offset, 1) for offset in offsets]


def test_outcomes_wait_for_their_predecessors() -> None:
    ledger: Ledger[int, str] = Ledger()
    first, second = admitted(ledger, 5, 6)
    ledger.settle(second, "b")
    assert ledger.release() == []
    ledger.settle(first, "a")
    assert ledger.release() == [first, second]
    assert ledger.release() == []


def test_nothing_is_committed_past_an_unacknowledged_event() -> None:
    ledger: Ledger[int, str] = Ledger()
    entries = admitted(ledger, 5, 6, 9)
    for entry in entries:
        ledger.settle(entry, "x")
    ledger.release()
    ledger.acknowledge(entries[1:])
    assert ledger.committable() == {}
    ledger.acknowledge(entries[:1])
    assert ledger.committable() == {A: 10}
    assert ledger.committable() == {}


def test_markers_at_the_end_are_not_lag() -> None:
    """A commit marker after the last event is nobody's event: once nothing is in flight, the mark passes it."""
    ledger: Ledger[int, str] = Ledger()
    (entry,) = admitted(ledger, 9)
    ledger.read_up_to(ledger.lanes[A], 11)
    assert ledger.committable() == {}
    ledger.settle(entry, "x")
    ledger.acknowledge(ledger.release())
    assert ledger.committable() == {A: 11}


def test_a_revoked_lane_never_comes_back() -> None:
    ledger: Ledger[int, str] = Ledger()
    (old,) = admitted(ledger, 5)
    ledger.revoke([A])
    (new,) = admitted(ledger, 5)
    ledger.settle(old, "late")
    assert ledger.release() == []
    ledger.acknowledge([old])
    assert ledger.committable() == {}
    ledger.settle(new, "x")
    assert ledger.release() == [new]
    with pytest.raises(ValueError, match="revocation"):
        ledger.admit(old.lane, 6, 6, 1)


def test_going_back_is_refused() -> None:
    ledger: Ledger[int, str] = Ledger()
    admitted(ledger, 5)
    with pytest.raises(ValueError, match="offset 5"):
        admitted(ledger, 5)


def test_a_rollback_repeats_everything_from_the_first_that_was_not_acknowledged() -> None:
    """Else the older event would be the last one that is seen of its key."""
    ledger: Ledger[int, str] = Ledger()
    entries = admitted(ledger, 1, 2, 3, 4)
    for entry in entries:
        ledger.settle(entry, "x")
    ledger.release()
    ledger.acknowledge([entries[0], entries[2]])
    ledger.rollback()
    assert ledger.release() == entries[1:]
    assert [entry.releases for entry in entries] == [1, 2, 2, 2]
    ledger.acknowledge(entries[1:3])
    assert ledger.committable() == {A: 4}
    ledger.acknowledge(entries[3:])
    assert ledger.committable() == {A: 5}
