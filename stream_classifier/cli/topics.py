"""`stream-classifier topics create`: the topics that a settings file names."""

from __future__ import annotations

from typing import Annotated

import typer

from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.kafka.topics import NewTopic, Topics
from stream_classifier.settings_file import load_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_DEAD_LETTERS_KEPT_MS = 30 * 24 * 3600 * 1000
_ROOM_FOR_HEADERS = 65_536


@app.callback()
def topics() -> None:
    """Make the topics of a settings file.

    Example: stream-classifier topics create --config config/worker.yaml
    """


@app.command()
def create(
    config: ConfigOption,
    partitions: Annotated[int, typer.Option(min=1, help="Of each new topic, where the input does not say.")] = 6,
) -> None:
    """Make the input, output and dead-letter topics that do not exist yet.

    The output gets as many partitions as the input, so that a key keeps its partition; the dead-letter topic takes
    larger records than the input, and keeps them for 30 days.

    Example: stream-classifier topics create --config config/worker.yaml
    """
    settings = load_settings(config)
    kafka = Topics(settings.kafka)
    kafka.reach()
    inputs, output, dead_letter = settings.input.topics, settings.output.topic, settings.dead_letter.topic
    found = kafka.describe([*inputs, output, dead_letter])
    wanted = max([found[name].partitions for name in inputs if found[name].partitions], default=partitions)
    largest = max(limits.max_bytes for limits in kafka.limits(inputs).values())
    made = kafka.create(
        [
            *(NewTopic(name, wanted, {}) for name in inputs),
            NewTopic(output, wanted, {"max.message.bytes": str(largest + _ROOM_FOR_HEADERS)}),
            NewTopic(
                dead_letter,
                wanted,
                {
                    "max.message.bytes": str(largest + _ROOM_FOR_HEADERS),
                    "retention.ms": str(_DEAD_LETTERS_KEPT_MS),
                },
            ),
        ]
    )
    there = kafka.describe(made)
    for name, new in made.items():
        count = wanted if new else there[name].partitions
        typer.echo(f"{name}: {'made' if new else 'exists'}, {count} partitions")
