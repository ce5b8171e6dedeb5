"""`stream-classifier dead-letters`: what could not be labelled, and sending it round once more."""

from __future__ import annotations

import re
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from stream_classifier.cli.letters_shown import as_json_line, count, explained, group_members, lines, members, table
from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.errors import StreamClassifierError, UsageError
from stream_classifier.events.letter import Place, is_note, read_note
from stream_classifier.events.redrive import Choice, Letters, grouped, plan
from stream_classifier.kafka.reader import contents
from stream_classifier.kafka.redrive import redrive as publish_again
from stream_classifier.kafka.topics import Topics
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from stream_classifier.events.record import Record
    from stream_classifier.settings import Settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

ReasonOption = Annotated[
    list[str] | None, typer.Option("--reason", metavar="CODE", help="Only this reason code; may be repeated.")
]
SourceOption = Annotated[
    str | None, typer.Option("--source-topic", metavar="TOPIC", help="Only events of this input topic.")
]
LabelSetOption = Annotated[
    str | None,
    typer.Option("--label-set", metavar="NAME", help="Only events that this set (or adhoc) had labelled."),
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Put aside since then: an ISO 8601 time, or 2h ago.")
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Put aside before then: an ISO 8601 time, or 2h ago.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for pipes.")]


@app.callback()
def dead_letters() -> None:
    """List, show and redrive what could not be labelled.

    Example: stream-classifier dead-letters list --config config/worker.yaml
    """


@app.command("list")
def list_(
    config: ConfigOption,
    reason: ReasonOption = None,
    source_topic: SourceOption = None,
    label_set: LabelSetOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many dead letters there are of each reason, how many of them were redriven, and one place of each.

    Example: stream-classifier dead-letters list --config config/worker.yaml --since 2h
    """
    settings = load_settings(config)
    choice = _choice(reason, source_topic, label_set, since, until)
    groups = grouped(_read(settings), choice)
    if as_json:
        for group in groups:
            typer.echo(as_json_line(group_members(group)))
        return
    if not groups:
        typer.echo(f"{settings.dead_letter.topic} holds no such dead letters", err=True)
        return
    for line in table(groups):
        typer.echo(line)


@app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION/OFFSET", help="Where it is in the dead-letter topic.")],
    config: ConfigOption,
    payload: Annotated[bool, typer.Option("--payload", help="Also the event's key, headers and value.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Nothing but the value's bytes, for a pipe or a file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole; the user's own content only with --payload.

    Example: stream-classifier dead-letters show 0/17 --config config/worker.yaml --payload
    """
    settings = load_settings(config)
    (partition, offset), topic = _place(place), settings.dead_letter.topic
    if raw and sys.stdout.isatty():
        raise UsageError("--raw: the value could make a terminal do things; send it into a file or a pipe")
    record, redriven = _read_one(settings, partition, offset)
    if record is None:
        raise StreamClassifierError(f"{topic} has no dead letter at {place}; `dead-letters list` names places")
    if raw:
        sys.stdout.buffer.write(record.value or b"")
        sys.stdout.buffer.flush()
    elif as_json:
        typer.echo(as_json_line(members(record, redriven=redriven, payload=payload)))
    else:
        for line in lines(record, redriven=redriven, payload=payload):
            typer.echo(line)


@app.command()
def redrive(
    config: ConfigOption,
    places: Annotated[
        list[str] | None, typer.Argument(metavar="[PARTITION/OFFSET]...", help="Only these; without, all.")
    ] = None,
    reason: ReasonOption = None,
    source_topic: SourceOption = None,
    label_set: LabelSetOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were redriven before.")] = False,
    current_time: Annotated[
        bool, typer.Option("--current-time", help="Give the events the time of now instead of their own.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Publish dead letters to the input topics that they came from, each exactly once however often this is run.

    Key, value, headers, timestamp and partition are the event's own. What went back is noted in the dead-letter topic
    in the same transaction. Exit code 1 when some of those that are meant cannot go back.

    Example: stream-classifier dead-letters redrive --config config/worker.yaml --reason text_missing --dry-run
    """
    settings = load_settings(config)
    wanted = frozenset(_place(place) for place in places or [])
    choice = _choice(reason, source_topic, label_set, since, until)._replace(places=wanted)
    topics = Topics(settings.kafka)
    topics.reach()
    partitions = topics.require(dict.fromkeys(settings.input.topics, "DESCRIBE" if dry_run else "WRITE"))
    limits = topics.limits([*settings.input.topics, settings.dead_letter.topic])
    letters = _read(settings)
    if missing := sorted(wanted - letters.found.keys()):
        raise StreamClassifierError(
            f"{settings.dead_letter.topic} has no dead letter at {missing[0][0]}/{missing[0][1]}; nothing was changed"
        )
    of_inputs = {topic: limits[topic] for topic in settings.input.topics}
    kept, now = topics.kept(settings.input.topics), int(time.time() * 1000)
    planned = plan(letters, choice, of_inputs, kept, now, again=again, current_time=current_time)
    for line in explained(planned, settings.input.topics):
        typer.echo(line)
    if planned.returning and not dry_run:
        if sys.stdin.isatty() and not yes and not typer.confirm(f"Publish {count(planned.returning)}?", err=True):
            raise StreamClassifierError("nothing was changed")
        chosen, topic = {letter.place for letter in planned.returning}, settings.dead_letter.topic
        _follow(
            publish_again(settings.kafka, topic, letters, chosen, partitions, limits, current_time=current_time),
            len(chosen),
        )
    if planned.obstacles:
        raise typer.Exit(1)


def _follow(transactions: Iterator[int], chosen: int) -> None:
    """Ctrl-C ends it after the transaction under way: raised inside the client, its error could get lost."""
    redriven = 0
    whole = stopping = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever insists is heard at once

    usual = signal.signal(signal.SIGINT, stop)
    try:
        for done in transactions:
            redriven += done
            if stopping:
                raise KeyboardInterrupt
        whole = True
    finally:
        signal.signal(signal.SIGINT, usual)
        # What went back before something went wrong should be known before it is tried again.
        typer.echo(f"redriven: {redriven}{'' if whole else '; run it again for the rest'}", err=not whole)
    if redriven < chosen:
        typer.echo(f"{chosen - redriven} were redriven by somebody else meanwhile, or are no more", err=True)


# Reading --------------------------------------------------------------------------------------------------------------


def _read(settings: Settings) -> Letters:
    letters = Letters()
    for record in contents(settings.kafka, settings.dead_letter.topic):
        letters.add(record)
    return letters


def _read_one(settings: Settings, partition: int, offset: int) -> tuple[Record | None, bool]:
    """The dead letter of a place, and whether a later note says that it was redriven."""
    found, redriven = None, False
    first, ends = {partition: offset}, {partition: sys.maxsize}
    for record in contents(settings.kafka, settings.dead_letter.topic, first=first, ends=ends):
        if found is None:
            if record.offset != offset or is_note(record):
                return None, False
            found = record
        elif is_note(record) and (partition, offset) in read_note(record):
            redriven = True
    return found, redriven


# What was typed -------------------------------------------------------------------------------------------------------


def _choice(
    reasons: list[str] | None, source_topic: str | None, label_set: str | None, since: str | None, until: str | None
) -> Choice:
    return Choice(
        frozenset(reasons or ()), source_topic, label_set, _moment(since, "--since"), _moment(until, "--until")
    )


def _place(text: str) -> Place:
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,18})", text)
    if found is None:
        raise UsageError(f"{text!r} is not a place: PARTITION/OFFSET in the dead-letter topic, such as 0/17")
    return int(found[1]), int(found[2])


def _moment(text: str | None, option: str) -> int | None:
    """A time in milliseconds since 1970."""
    if text is None:
        return None
    if found := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        moment = datetime.now(UTC) - timedelta(seconds=min(int(found[1]) * _UNITS[found[2]], time.time()))
    else:
        try:
            moment = datetime.fromisoformat(text).astimezone()  # without an offset, the time is this machine's
        except (ValueError, OverflowError):
            raise UsageError(
                f"{option}: {text!r} is neither an ISO 8601 time such as 2026-01-31T12:00Z, nor a duration such as "
                "30m, 2h or 7d"
            ) from None
    return int(moment.timestamp() * 1000)
