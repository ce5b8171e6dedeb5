"""`stream-classifier worker`: label events until told to stop."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import typer
from prometheus_client import ProcessCollector

from stream_classifier import __version__, logs
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.cli.ending import log_end, stop_on_signals
from stream_classifier.cli.opened import open_model
from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.cli.tracing import open_tracing
from stream_classifier.health import Health
from stream_classifier.kafka.clients import check_properties
from stream_classifier.metrics import Metrics
from stream_classifier.observability import ObservabilityServer
from stream_classifier.settings_file import load_settings
from stream_classifier.worker import Worker

if TYPE_CHECKING:
    from types import FrameType

    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.settings import Settings
    from stream_classifier.tracing import Tracing

_LEAVE_SECONDS = 5.0  # after the drain, to commit and leave the group
_START_SECONDS = 600.0  # the first start may have to build the embedded model


def worker(context: typer.Context, config: ConfigOption) -> None:
    """Label the events of the input topics until SIGTERM or Ctrl-C: then drain, commit, leave the group.

    Example: stream-classifier worker --config config/worker.yaml
    """
    settings = load_settings(config)
    label_set = choose(load_label_sets(settings.labels.path), settings.labels.use)
    check_properties(settings.kafka, transactions=settings.delivery == "exactly_once")
    logs.configure(settings.observability)
    log = logs.logger("worker")
    tracing = open_tracing(settings)
    told = threading.Event()

    def interrupt(_: int, __: FrameType | None) -> None:
        told.set()
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts what is in its background deaf to SIGINT
        signal.signal(number, interrupt)
    try:
        _run(settings, label_set, tracing)
    except KeyboardInterrupt:
        log.info("stopped before there was anything to drain")
    except Exception as error:
        if told.is_set():  # what is just being loaded may make an error of its own of it
            log.info("stopped before there was anything to drain")
            return
        exit_code = log_end(log, error)
        if context.find_root().params["debug"]:
            raise
        raise typer.Exit(exit_code) from None
    finally:
        tracing.close()


def _run(settings: Settings, label_set: LabelSet, tracing: Tracing) -> None:
    log = logs.logger("worker")
    metrics, health = Metrics(), Health(time.monotonic())
    ProcessCollector(registry=metrics.registry)
    health.progress(time.monotonic(), _START_SECONDS)
    observability = settings.observability
    with ObservabilityServer(observability.host, observability.port, metrics, health, time.monotonic) as server:
        log.info("starting", version=__version__, metrics=f"http://{observability.host}:{server.port}/metrics")
        classifier, threads = open_model(settings, [label_set], metrics, log, top_k=settings.output.top_k)
        health.model = True
        running = Worker(
            settings,
            label_set,
            classifier,
            model=classifier.short_hash,
            threads=threads,
            metrics=metrics,
            health=health,
            tracing=tracing,
        )
        stop_on_signals(running.stop, settings.shutdown.drain_seconds + _LEAVE_SECONDS, log)
        running.run()
