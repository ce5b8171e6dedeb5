"""`stream-classifier watch`: labelled events, or dead letters, as they arrive."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.events.letter import is_note
from stream_classifier.kafka.reader import read
from stream_classifier.registry.opening import open_schema_form
from stream_classifier.settings import WITH_SCHEMA
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from stream_classifier.events.record import Record
    from stream_classifier.settings import Settings

_LABEL_CELLS = 24
_TEXT_CELLS = 72
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta", "bright_green")


def watch(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for pipes.")] = False,
    dead_letters: Annotated[bool, typer.Option("--dead-letters", help="Watch the dead-letter topic instead.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin with what is there already.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after so many.")] = None,
) -> None:
    """Show labelled events as they arrive, until Ctrl-C.

    Dead letters are shown by reason and source; their payload stays where it is.

    Example: stream-classifier watch --config config/worker.yaml
    """
    settings = load_settings(config)
    topic = settings.dead_letter.topic if dead_letters else settings.output.topic
    console = Console(soft_wrap=True)
    shown = 0
    has_schema = settings.input.format in WITH_SCHEMA and settings.output.format == "same" and not dead_letters
    form = open_schema_form(settings) if has_schema else None
    records = read(settings.kafka, [topic], from_beginning=from_beginning)
    try:
        next(records)
        typer.echo(f"watching {topic}; Ctrl-C stops", err=True)
        for record in records:
            if record is None or (dead_letters and is_note(record)):
                continue
            if form is not None:
                with contextlib.suppress(ValueError):  # what is no labelled event is shown as such
                    record.value = form.shown(record)
            if as_json:
                sys.stdout.buffer.write((_dead_letter_json(record) if dead_letters else _event_json(record)) + b"\n")
                sys.stdout.buffer.flush()
            else:
                console.print(_dead_letter_line(record) if dead_letters else event_line(record, settings))
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        return
    finally:
        if form is not None:
            form.close()


def event_line(record: Record, settings: Settings) -> Text:
    """One labelled event as a line for people: score, label, text."""
    try:
        event = orjson.loads(record.value or b"null")
        if settings.input.format == "cloudevents" and settings.output.field not in event:
            event = event["data"]  # the structured mode
        result = event[settings.output.field]
        # Protobuf's JSON leaves out what is not set.
        label, score = result["label"] if settings.input.format != "protobuf" else result.get("label"), result["score"]
        score = float(score)
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
        return Text(f"{record.source}: not a labelled event", style="dim")
    text: Any = event
    for name in settings.input.text_field.split(".") if settings.input.format != "text" else ["text"]:
        text = text.get(name, "") if isinstance(text, dict) else ""
    name = "-" if label is None else _printable(label)
    shown = Text(_printable(text))
    shown.truncate(_TEXT_CELLS, overflow="ellipsis")
    return Text.assemble(
        (f"{score:.2f} ", "dim"),
        (f"{name}{' ' * (_LABEL_CELLS - cell_len(name))} ", "dim" if label is None else _colour(name)),
        shown,
    )


def _printable(content: object) -> str:
    """Without control characters, which could make a terminal do things."""
    return "".join(character if character.isprintable() else " " for character in str(content))


def _colour(label: str) -> str:
    # The same label has the same colour in every run; hash() of a string does not.
    return _COLOURS[sum(label.encode()) % len(_COLOURS)]


def _event_json(record: Record) -> bytes:
    """The event's bytes on one line: line breaks stand only between the tokens of JSON, where a blank is as good."""
    return (record.value or b"null").replace(b"\r", b" ").replace(b"\n", b" ")


def _headers(record: Record) -> dict[str, str]:
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
        for name, value in record.headers or []
        if name.startswith("classifier-")
    }


def _dead_letter_line(record: Record) -> Text:
    headers = _headers(record)
    return Text.assemble(
        (f"{_printable(headers.get('classifier-error-code', '?')):<20} ", "red"),
        (f"{_printable(headers.get('classifier-source', '?'))} ", "dim"),
        _printable(headers.get("classifier-error-message", "")),
    )


def _dead_letter_json(record: Record) -> bytes:
    return orjson.dumps({"offset": record.offset, "partition": record.partition, **_headers(record)})
