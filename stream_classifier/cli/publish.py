"""`stream-classifier publish`: a file or a pipe to the input topic."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.cli.texts import Lines
from stream_classifier.errors import UsageError
from stream_classifier.kafka.publisher import publish as publish_records
from stream_classifier.kafka.topics import Topics
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from typing import BinaryIO

    from stream_classifier.settings import Settings


def publish(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON lines, .csv or plain lines (.txt); - for a pipe.")
    ],
    config: ConfigOption,
    key_field: Annotated[
        str | None, typer.Option(help="The member (or CSV column) that becomes the record's key; none without it.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Where to, when the settings name several input topics.")] = None,
) -> None:
    """Publish a file to the input topic, each record's delivery checked.

    JSON lines go as they are, bytes unchanged; a CSV row becomes an object of its columns; a plain line becomes
    {"text": ...}, or stays as it is with `input.format: text`.

    Example: stream-classifier publish tickets.jsonl --config config/worker.yaml --key-field id
    """
    settings = load_settings(config)
    target = topic or settings.input.topics[0]
    if target not in settings.input.topics:
        raise UsageError(f"--topic: {target} is not one of input.topics ({', '.join(settings.input.topics)})")
    kafka = Topics(settings.kafka)
    kafka.reach()
    kafka.require([target])
    stream, name = _open(file)
    with stream, _progress(stream) as progress:
        task = progress.add_task("published", total=None)
        records = _records(stream, name, settings, key_field)
        count = publish_records(settings.kafka, target, records, lambda done: progress.update(task, completed=done))
    typer.echo(f"published {count} records to {target}", err=True)


def _open(file: str) -> tuple[BinaryIO, str]:
    if file == "-":
        return sys.stdin.buffer, "standard input"
    try:
        return Path(file).open("rb"), file
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None


def _progress(stream: BinaryIO) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal or stream.isatty(), transient=True)


def _records(
    stream: BinaryIO, name: str, settings: Settings, key_field: str | None
) -> Iterator[tuple[bytes | None, bytes | None]]:
    form = {".csv": "csv", ".txt": "lines", ".jsonl": "json", ".ndjson": "json"}.get(Path(name).suffix.lower())
    source: BufferedIOBase = stream  # type: ignore[assignment]  # a binary file is one
    lines = Lines(source, name)
    if form == "csv":
        yield from _from_csv(lines, key_field)
        return
    for line in lines:
        if not line.strip():
            continue
        if form == "lines" or (form is None and not line.lstrip().startswith(b"{")):
            plain = settings.input.format == "text"
            yield None, line if plain else orjson.dumps({settings.input.text_field: lines.decoded(line)})
        else:
            yield _key(line, key_field), line


def _from_csv(lines: Lines, key_field: str | None) -> Iterator[tuple[bytes | None, bytes]]:
    reader = csv.DictReader((lines.decoded(line) + "\n" for line in lines), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise lines.error(f"does not have as many columns as the header ({len(reader.fieldnames or ())})")
            if key_field is not None and key_field not in row:
                raise lines.error(f"the header has no {key_field!r}; name a column with --key-field")
            yield row[key_field].encode() if key_field else None, orjson.dumps(row)
    except csv.Error as error:
        raise lines.error(f"is not CSV ({error})") from None


def _key(line: bytes, field: str | None) -> bytes | None:
    if field is None:
        return None
    try:
        value = orjson.loads(line)[field]
    except (orjson.JSONDecodeError, TypeError, KeyError, IndexError):
        return None  # the worker will say what is wrong with it
    return value.encode() if isinstance(value, str) else orjson.dumps(value)
