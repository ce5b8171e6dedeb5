"""Which dead letters are meant, and which of them can go back. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream_classifier.events.letter import is_note, parse_source, read_letter, read_note

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from stream_classifier.events.letter import Letter, Place
    from stream_classifier.events.outgoing import TopicLimits
    from stream_classifier.events.record import Record


class Letters:
    """What was read of a dead-letter topic.

    Attributes:
        found: The dead letters, by their places, in the order in which they were read.
        redriven: Places that notes name.
    """

    def __init__(self) -> None:
        self.found: dict[Place, Letter] = {}
        self.redriven: set[Place] = set()
        self._last: dict[int, int] = {}

    def add(self, record: Record) -> None:
        """Take in one record."""
        self._last[record.partition] = record.offset
        if is_note(record):
            self.redriven.update(read_note(record))
        else:
            letter = read_letter(record)
            self.found[letter.place] = letter

    def next_offsets(self) -> dict[int, int]:
        """Where to read on, in each partition that has records."""
        return {partition: offset + 1 for partition, offset in self._last.items()}


class Choice(NamedTuple):
    """Which dead letters are meant: those that every part agrees to.

    Attributes:
        reasons: Reason codes; empty for all.
        source_topic: Where the event came from.
        label_set: A label set's name, its `name@version`, or `adhoc`.
        since: The first time at which it was put aside, in milliseconds.
        until: The first time at which it was not.
        places: Where they stand; empty for everywhere.
    """

    reasons: frozenset[str] = frozenset()
    source_topic: str | None = None
    label_set: str | None = None
    since: int | None = None
    until: int | None = None
    places: frozenset[Place] = frozenset()

    def takes(self, letter: Letter) -> bool:
        """Whether a dead letter is meant."""
        return (
            (not self.reasons or letter.code in self.reasons)
            and (self.source_topic is None or letter.source.startswith(f"{self.source_topic}/"))
            and (self.label_set is None or self.label_set in _names(letter.label_set))
            and (self.since is None or (letter.timestamp is not None and letter.timestamp >= self.since))
            and (self.until is None or (letter.timestamp is not None and letter.timestamp < self.until))
            and (not self.places or letter.place in self.places)
        )


def _names(label_set: str | None) -> Collection[str]:
    return () if label_set is None else (label_set, label_set.rpartition("@")[0])


class Plan(NamedTuple):
    """What a redrive would do.

    Attributes:
        returning: Dead letters that go back.
        before: Dead letters that went back before, and stay.
        without_payload: Dead letters whose event stands only where it came from.
        foreign: Dead letters that came from none of the input topics, or that no worker wrote.
        refused: Dead letters whose topic would refuse the event now, for its size or its time.
        expired: Dead letters whose topic would delete the event at once, for its age.
    """

    returning: list[Letter]
    before: list[Letter]
    without_payload: list[Letter]
    foreign: list[Letter]
    refused: list[Letter]
    expired: list[Letter]

    @property
    def obstacles(self) -> int:
        """How many cannot go back."""
        return len(self.without_payload) + len(self.foreign) + len(self.refused) + len(self.expired)


def plan(
    letters: Letters,
    choice: Choice,
    limits: Mapping[str, TopicLimits],
    kept: Mapping[str, int],
    now: int,
    *,
    again: bool,
    current_time: bool,
) -> Plan:
    """Sort the dead letters that are meant by what would become of them.

    Args:
        letters: What the dead-letter topic holds.
        choice: Which are meant.
        limits: What each input topic refuses.
        kept: For how many milliseconds it keeps a record.
        now: Milliseconds since 1970.
        again: Whether those go back once more that did before.
        current_time: Whether they get the time at which they go back.
    """
    made = Plan([], [], [], [], [], [])
    for letter in letters.found.values():
        if not choice.takes(letter):
            continue
        source = parse_source(letter.source)
        timestamp = now if current_time or letter.source_timestamp is None else letter.source_timestamp
        if letter.place in letters.redriven and not again:
            made.before.append(letter)
        elif source is None or source.topic not in limits or not letter.code:
            made.foreign.append(letter)
        elif not letter.whole:
            made.without_payload.append(letter)
        elif not _is_taken(letter.size, timestamp, limits[source.topic], now):
            made.refused.append(letter)
        elif now - timestamp > kept[source.topic]:
            made.expired.append(letter)
        else:
            made.returning.append(letter)
    return made


def _is_taken(size: int, timestamp: int, limits: TopicLimits, now: int) -> bool:
    return size <= limits.max_bytes and now - limits.past_ms <= timestamp <= now + limits.future_ms


class Group(NamedTuple):
    """The dead letters of one reason.

    Attributes:
        code: The reason.
        total: How many there are.
        redriven: How many of them went back.
        first: When the first one was put aside, in milliseconds; None when none has a time.
        last: When the last one was.
        example: The newest one that did not go back, or the newest one.
    """

    code: str
    total: int
    redriven: int
    first: int | None
    last: int | None
    example: Letter


def grouped(letters: Letters, choice: Choice) -> list[Group]:
    """The dead letters that are meant, by reason, the commonest first."""
    by_code: dict[str, list[Letter]] = {}
    for letter in letters.found.values():
        if choice.takes(letter):
            by_code.setdefault(letter.code, []).append(letter)
    groups = []
    for code, members in by_code.items():
        waiting = [letter for letter in members if letter.place not in letters.redriven]
        times = [letter.timestamp for letter in members if letter.timestamp is not None]
        example = max(waiting or members, key=lambda letter: (letter.timestamp or 0, letter.place))
        first, last = (min(times), max(times)) if times else (None, None)
        groups.append(Group(code, len(members), len(members) - len(waiting), first, last, example))
    return sorted(groups, key=lambda group: (-group.total, group.code))
