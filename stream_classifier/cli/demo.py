"""`stream-classifier demo`: the main job on one machine, with nothing set up.

A real Kafka, a real worker process, the sample tickets: what is shown is what a stream of one's own would look like.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from stream_classifier.cli.demo_tally import Tally
from stream_classifier.cli.pace import paced
from stream_classifier.cli.watch import event_line
from stream_classifier.errors import KafkaError, StalledError, StreamClassifierError
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.kafka.embedded.launch import launch
from stream_classifier.kafka.publisher import publish
from stream_classifier.kafka.reader import read
from stream_classifier.kafka.topics import NewTopic, Topics
from stream_classifier.model.default import build_default
from stream_classifier.samples import Sample, label_set_path, load_samples
from stream_classifier.settings import KafkaSettings
from stream_classifier.settings_file import ENVIRONMENT_PREFIX, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_classifier.settings import Settings

_PARTITIONS = 4
_PATIENCE_SECONDS = 120.0  # without any progress
_STOP_SECONDS = 40.0


def demo(
    events: Annotated[int | None, typer.Option(min=1, help="Stop after so many; all samples once by default.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Tickets a second; 0: as fast as it goes.")] = 60,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Use a Kafka of your own instead of the embedded one; its topics are new ones.")
    ] = None,
) -> None:
    """Watch sample tickets, Chinese and English, being labelled on a real Apache Kafka, with nothing set up.

    Example: stream-classifier demo
    """
    samples = list(itertools.islice(itertools.cycle(load_samples()), events or len(load_samples())))
    console = Console(soft_wrap=True, highlight=False)
    clock = _Phases(console)
    with contextlib.ExitStack() as stack:
        if bootstrap_servers is not None:
            Topics(KafkaSettings(bootstrap_servers=bootstrap_servers, group_id="stream-classifier-demo")).reach()
        building = _Building(lambda line: console.print(f"  {line}", style="dim"))
        if bootstrap_servers is None:
            cluster = EmbeddedCluster(1, progress=lambda line: console.print(f"  {line}", style="dim"))
            bootstrap_servers = stack.enter_context(cluster).bootstrap_servers
        clock.done(f"Apache Kafka at {bootstrap_servers}")
        building.wait()
        clock.done("the model is there")
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-classifier-demo-")))
        config = _write_config(directory, bootstrap_servers, stack.enter_context(label_set_path()))
        settings = load_settings(config, {})
        kafka = Topics(settings.kafka)
        stack.callback(_delete_topics, kafka, settings)
        # The broker writes when it has a ticket, so that the latency is the worker's and not the publisher's.
        tickets, *others = _topics(settings)
        arrival = {"message.timestamp.type": "LogAppendTime"}
        kafka.create(
            [NewTopic(tickets, _PARTITIONS, arrival), *(NewTopic(name, _PARTITIONS, {}) for name in others)],
        )
        running = _WorkerProcess(config, directory)
        stack.callback(running.kill)
        console.print(f"  metrics: {running.metrics_address()}", style="dim")
        running.wait_until_ready()
        clock.done("the worker is ready")
        tally = _label(settings, samples, rate, running, console, clock)
        running.stop()
        clock.done("the worker drained and left")
    for line in tally.summary():
        console.print(line)
    if problem := tally.problem():
        raise StreamClassifierError(problem)


class _Phases:
    """Says what is done, and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begin = self._last = time.monotonic()

    def done(self, what: str) -> None:
        now = time.monotonic()
        self._console.print(f"[dim]{now - self._begin:6.1f} s[/dim]  {what} [dim](+{now - self._last:.1f} s)[/dim]")
        self._last = now


class _Building:
    """Builds the embedded model, where it is not built yet, while Kafka is fetched and started."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._build, args=(progress,), daemon=True)
        self._thread.start()

    def _build(self, progress: Callable[[str], None]) -> None:
        try:
            build_default(progress=progress)
        except BaseException as error:  # noqa: BLE001 - raised again by wait()
            self._error = error

    def wait(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


def _write_config(directory: Path, bootstrap_servers: str, labels: Path) -> Path:
    prefix = f"stream-classifier-demo-{uuid.uuid4().hex[:8]}"
    config = directory / "worker.yaml"
    document = {
        "kafka": {"bootstrap_servers": bootstrap_servers, "group_id": prefix},
        "input": {"topics": [f"{prefix}.tickets"]},
        "output": {"topic": f"{prefix}.labelled"},
        "dead_letter": {"topic": f"{prefix}.dead-letter"},
        "labels": {"path": str(labels)},
        "observability": {"port": 0, "log_format": "json"},
    }
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    return config


def _topics(settings: Settings) -> list[str]:
    return [settings.input.topics[0], settings.output.topic, settings.dead_letter.topic]


def _delete_topics(kafka: Topics, settings: Settings) -> None:
    # The embedded Kafka forgets everything anyway; on somebody's own nothing is to be left behind.
    with contextlib.suppress(StreamClassifierError):
        kafka.delete(_topics(settings))


class _WorkerProcess:
    """A `stream-classifier worker` of its own, as an operator would run it."""

    def __init__(self, config: Path, directory: Path) -> None:
        self._log = directory / "worker.log"
        command = [sys.executable, "-m", "stream_classifier", "worker", "--config", str(config)]
        for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
            del os.environ[name]  # they are for the user's own workers, not for this one
        self._process = launch(command, directory=directory, log=self._log)

    def metrics_address(self) -> str:
        """The address that it serves metrics at."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.check()
            for line in self._lines():
                if address := line.get("metrics"):
                    return str(address)
            time.sleep(0.05)
        raise StalledError("the worker did not start")

    def wait_until_ready(self) -> None:
        """Wait until it has loaded the model and joined its group."""
        ready = self.metrics_address().replace("/metrics", "/readyz")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(ready, timeout=5):  # noqa: S310 - http
                return
            time.sleep(0.05)
        raise StalledError("the worker did not become ready")

    def check(self) -> None:
        """Raise an error when it has ended."""
        if (status := self._process.poll()) is not None:
            reasons = [line["reason"] for line in self._lines() if "reason" in line]
            raise KafkaError(f"the worker ended with {status}: {reasons[-1] if reasons else 'it did not say why'}")

    def _lines(self) -> list[dict[str, object]]:
        lines = []
        for line in self._log.read_bytes().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                lines.append(orjson.loads(line))
        return [line for line in lines if isinstance(line, dict)]

    def stop(self) -> None:
        """Ask it to drain and end, and wait for that."""
        self._process.terminate()
        try:
            status = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise StalledError(f"the worker did not end within {_STOP_SECONDS:g} s") from None
        if status:
            raise StalledError(f"the worker ended with {status}")

    def kill(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.wait()


def _label(
    settings: Settings, samples: list[Sample], rate: float, running: _WorkerProcess, console: Console, clock: _Phases
) -> Tally:
    tally = Tally(settings, samples)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    records = read(settings.kafka, _topics(settings)[1:], from_beginning=True, idle_seconds=0.1)
    next(records)
    publishing = _Publishing(settings, tally.keys, samples, rate)
    patient_until = time.monotonic() + _PATIENCE_SECONDS
    with contextlib.closing(records), Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("labelled", total=len(samples), speed="")
        for record in records:
            if record is None:
                running.check()
                publishing.check()
                if time.monotonic() > patient_until:
                    raise StalledError(f"nothing was labelled for {_PATIENCE_SECONDS:g} s")
                continue
            patient_until = time.monotonic() + _PATIENCE_SECONDS
            if not tally.received:
                clock.done("the first label")
            verdict = tally.receive(record, time.time() * 1000)
            if record.topic == settings.output.topic:
                console.print(event_line(record, settings).append(verdict, style="dim"))
            else:
                console.print(f"[red]{verdict}[/red]")
            progress.update(task, completed=tally.received, speed=tally.speed())
            if tally.complete:
                break
    return tally


class _Publishing:
    """Publishes the samples from a thread of its own, at the rate that is asked for."""

    def __init__(self, settings: Settings, keys: list[str], samples: list[Sample], rate: float) -> None:
        self._error: BaseException | None = None
        self._records = [(key.encode(), sample.value) for key, sample in zip(keys, samples, strict=True)]
        self._rate = rate
        threading.Thread(target=self._publish, args=(settings,), daemon=True).start()

    def _publish(self, settings: Settings) -> None:
        try:
            publish(settings.kafka, settings.input.topics[0], paced(self._records, self._rate))
        except BaseException as error:  # noqa: BLE001 - raised again by check()
            self._error = error

    def check(self) -> None:
        """Raise an error when it failed."""
        if self._error is not None:
            raise self._error
