"""`stream-classifier check`: everything that could keep a worker from working, in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.classify.opening import open_configured
from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.cli.tracing import open_tracing
from stream_classifier.errors import SettingsError, StreamClassifierError
from stream_classifier.kafka.clients import check_properties
from stream_classifier.kafka.topics import Topics
from stream_classifier.kafka.transaction_calls import try_transactions
from stream_classifier.registry.opening import open_schema_form
from stream_classifier.settings import WITH_SCHEMA
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream_classifier.settings import Settings


def check(
    config: ConfigOption,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the broker out.")] = False,
) -> None:
    """Check settings, label sets, the model and the broker, and say everything that is wrong.

    Example: stream-classifier check --config config/worker.yaml
    """
    settings = load_settings(config)
    typer.echo("ok       settings")
    parts: list[tuple[str, Callable[[Settings], Iterator[str]]]] = [
        ("labels", _labels),
        ("model", _model),
        ("client properties", _client_properties) if offline else ("kafka", _kafka),
    ]
    if settings.observability.tracing:
        parts.append(("tracing", _tracing))
    if settings.input.format in WITH_SCHEMA:
        parts.append(("schema registry", _registry_client if offline else _registry))
    problems = 0
    for name, part in parts:
        found = list(_problems_of(part, settings))
        problems += len(found)
        for problem in found:
            typer.echo(f"PROBLEM  {name}: {' '.join(problem.split())}")
        if not found:
            typer.echo(f"ok       {name}")
    if problems:
        raise typer.Exit(1)


def _problems_of(part: Callable[[Settings], Iterator[str]], settings: Settings) -> Iterator[str]:
    try:
        yield from part(settings)
    except StreamClassifierError as error:
        yield str(error)


def _labels(settings: Settings) -> Iterator[str]:
    choose(load_label_sets(settings.labels.path), settings.labels.use)
    yield from ()


def _model(settings: Settings) -> Iterator[str]:
    # As a worker does when it starts: nothing else would tell whether the model can be run, and reads the labels.
    scorer = open_configured(settings, lambda line: typer.echo(line, err=True))
    try:
        label_set = choose(load_label_sets(settings.labels.path), settings.labels.use)
    except SettingsError:
        return  # told already
    scorer.prepare(label_set)
    yield from ()


def _client_properties(settings: Settings) -> Iterator[str]:
    check_properties(settings.kafka, transactions=settings.delivery == "exactly_once")
    if hosts := _in_the_clear(settings):
        typer.echo(f"note     kafka: nothing that goes to {', '.join(hosts)} is encrypted; see security.protocol")
    yield from ()


def _kafka(settings: Settings) -> Iterator[str]:
    yield from _client_properties(settings)
    topics = Topics(settings.kafka)
    topics.reach()
    written = (settings.output.topic, settings.dead_letter.topic)
    needed = dict.fromkeys(settings.input.topics, "READ") | dict.fromkeys(written, "WRITE")
    states = topics.describe(needed)
    for name, right in needed.items():
        state = states[name]
        if not state.partitions and not state.error:
            yield f"topic {name} is missing; `stream-classifier topics create --config FILE` makes it"
        elif why := state.lacks(right):
            yield f"topic {name}: {why}"
    if (rights := topics.group_operations(settings.kafka.group_id)) is not None and "READ" not in rights:
        yield f"group {settings.kafka.group_id}: the principal lacks READ; give it that ACL"
    if settings.delivery == "exactly_once":
        try_transactions(settings.kafka)
    sizes = {states[name].partitions for name in (*settings.input.topics, settings.output.topic)} - {0}
    if len(sizes) > 1:
        typer.echo("note     kafka: input and output differ in partitions, so a key can change its partition number")


def _tracing(settings: Settings) -> Iterator[str]:
    open_tracing(settings).close()
    yield from ()


def _registry_client(settings: Settings) -> Iterator[str]:
    open_schema_form(settings).close()
    yield from ()


def _registry(settings: Settings) -> Iterator[str]:
    form = open_schema_form(settings)
    try:
        yield from form.problems()
    finally:
        form.close()


def _in_the_clear(settings: Settings) -> list[str]:
    """The brokers on other machines to which nothing is encrypted."""
    if str(settings.kafka.client.get("security.protocol", "plaintext")).lower().endswith("ssl"):
        return []
    addresses = (address.strip().rpartition("://")[2] for address in settings.kafka.bootstrap_servers.split(","))
    hosts = dict.fromkeys(address.rpartition(":")[0] or address for address in addresses)
    return [host for host in hosts if host not in {"localhost", "[::1]", "::1"} and not host.startswith("127.")]
