"""`stream-classifier publish`: a file or a pipe to the input topic."""

from __future__ import annotations

import contextlib
import csv
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.cli.pace import paced
from stream_classifier.cli.texts import Lines
from stream_classifier.errors import UsageError
from stream_classifier.kafka.publisher import publish as publish_records
from stream_classifier.kafka.topics import Topics
from stream_classifier.samples import load_samples
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from typing import BinaryIO

    from stream_classifier.settings import Settings

    _Record = tuple[bytes | None, bytes | None]

_FORMATS = {".csv": "csv", ".txt": "lines", ".json": "json", ".jsonl": "json", ".ndjson": "json"}


def publish(
    config: ConfigOption,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="JSON lines, .csv or plain lines (.txt); - for a pipe.")
    ] = None,
    key_field: Annotated[
        str | None, typer.Option(help="The member (or CSV column) that becomes the record's key; none without it.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Where to, when the settings name several input topics.")] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="The sample tickets in place of a file, again and again until Ctrl-C.")
    ] = False,
    rate: Annotated[float, typer.Option(min=0, help="Records a second; 0: as fast as the broker takes them.")] = 0,
) -> None:
    """Publish a file, a pipe or the sample tickets to the input topic, each record's delivery checked.

    JSON lines go as they are, bytes unchanged; a CSV row becomes an object of its columns; a plain line becomes
    {"text": ...}, or stays as it is with `input.format: text`. A pipe holds JSON lines if its first one begins with a
    brace, else plain lines.

    Example: stream-classifier publish tickets.jsonl --config config/worker.yaml --key-field id
    """
    if samples == (file is not None):
        raise UsageError("publish takes FILE, or - for a pipe, or --samples: one of them")
    if samples and key_field is not None:
        raise UsageError("--key-field: the sample tickets have their keys already")
    settings = load_settings(config)
    if settings.input.format not in {"json", "text"}:
        raise UsageError(
            f"publish writes JSON and plain text, and input.format is {settings.input.format}: take a producer with a "
            "serializer for it"
        )
    target = topic or settings.input.topics[0]
    if target not in settings.input.topics:
        raise UsageError(f"--topic: {target} is not one of input.topics ({', '.join(settings.input.topics)})")
    with contextlib.ExitStack() as stack:
        if file is None:
            records: Iterator[_Record] = itertools.cycle((each.id.encode(), each.value) for each in load_samples())
            by_hand = False
        else:
            stream, name = _open(file)
            stack.enter_context(stream)
            records, by_hand = _records(stream, name, settings, key_field), stream.isatty()
        kafka = Topics(settings.kafka)
        kafka.reach()
        kafka.require({target: "WRITE"})
        _publish(settings, target, paced(records, rate), by_hand=by_hand)


def _publish(settings: Settings, target: str, records: Iterator[_Record], *, by_hand: bool) -> None:
    published = 0
    whole = False

    def show(count: int) -> None:
        nonlocal published
        published = count
        progress.update(task, completed=count)

    try:
        with _progress(by_hand=by_hand) as progress:
            task = progress.add_task("published", total=None)
            publish_records(settings.kafka, target, records, show)
        whole = True
    finally:
        # What went into the topic before something went wrong should be known before it is tried again.
        if whole or published:
            typer.echo(f"published {published} record{'' if published == 1 else 's'} to {target}", err=True)


def _open(file: str) -> tuple[BinaryIO, str]:
    if file == "-":
        return sys.stdin.buffer, "standard input"
    try:
        return Path(file).open("rb"), file
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None


def _progress(*, by_hand: bool) -> Progress:
    """What shows how far it is, unless somebody types the records into the same terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal or by_hand, transient=True)


def _records(stream: BinaryIO, name: str, settings: Settings, key_field: str | None) -> Iterator[_Record]:
    source: BufferedIOBase = stream  # type: ignore[assignment]  # a binary file is one
    lines = Lines(source, name)
    form = _FORMATS.get(Path(name).suffix.lower())
    if form == "csv":
        yield from _from_csv(lines, settings, key_field)
        return
    present: Iterator[bytes] = (line for line in lines if line.strip())
    if form is None:
        first = list(itertools.islice(present, 1))
        form = "json" if first and first[0].lstrip().startswith(b"{") else "lines"
        present = itertools.chain(first, present)
    if form == "lines" and key_field is not None:
        raise UsageError("--key-field: plain lines have no fields; publish JSON lines or CSV")
    for line in present:
        if form == "json":
            yield _key(line, key_field), line
        elif settings.input.format == "text":
            yield None, line
        else:
            yield None, _event({}, settings.input.text_field, lines.decoded(line))


def _from_csv(lines: Lines, settings: Settings, key_field: str | None) -> Iterator[tuple[bytes | None, bytes]]:
    if settings.input.format == "text":
        raise UsageError("input.format is text, and a CSV row becomes a JSON object: publish plain lines")
    text_field = settings.input.text_field
    reader = csv.reader((lines.decoded(line) + "\n" for line in lines), strict=True)
    try:
        columns = next(reader, [])
        if not columns:
            return
        # The names in a header are not shown: without a header, the first line would be a user's text.
        if len(set(columns)) != len(columns):
            raise lines.error("two columns have the same name")
        if text_field not in columns:
            raise lines.error(f"none of the {len(columns)} columns is called {text_field!r}, as input.text_field says")
        if key_field is not None and key_field not in columns:
            raise lines.error(f"none of the {len(columns)} columns is called {key_field!r}, as --key-field says")
        for row in filter(None, reader):
            if len(row) != len(columns):
                raise lines.error(f"has {len(row)} columns, the header has {len(columns)}")
            members: dict[str, Any] = dict(zip(columns, row, strict=True))
            key = None if key_field is None else members[key_field].encode()
            text = members[text_field]
            if "." in text_field:
                del members[text_field]
            yield key, _event(members, text_field, text)
    except csv.Error as error:
        raise lines.error(f"is not CSV ({error})") from None


def _event(members: dict[str, Any], text_field: str, text: str) -> bytes:
    """An event with the text at the dotted path where the worker looks for it."""
    *parents, name = text_field.split(".")
    inner = members
    for parent in parents:
        inner[parent] = inner = {}
    inner[name] = text
    return orjson.dumps(members)


def _key(line: bytes, field: str | None) -> bytes | None:
    if field is None:
        return None
    try:
        value = orjson.loads(line)[field]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None  # the worker will say what is wrong with it
    if value is None or isinstance(value, str):
        return value if value is None else value.encode()
    return orjson.dumps(value)
