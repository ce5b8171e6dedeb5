"""`stream-classifier gateway`: label texts for whoever speaks HTTP, until told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from prometheus_client import ProcessCollector

from stream_classifier import logs
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.cli.ending import log_end, stop_on_signals
from stream_classifier.cli.opened import open_model
from stream_classifier.cli.options import ConfigOption  # noqa: TC001 - typer reads it
from stream_classifier.errors import UsageError
from stream_classifier.metrics import Metrics
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.gateway.server import Gateway, Loaded
    from stream_classifier.settings import Settings

_LEAVE_SECONDS = 5.0  # after the drain, for the last bytes


def gateway(context: typer.Context, config: ConfigOption) -> None:
    """Label texts for clients of HTTP until SIGTERM or Ctrl-C: then answer what is under way, and end.

    Example: stream-classifier gateway --config config/worker.yaml
    """
    settings = load_settings(config)
    label_sets = load_label_sets(settings.labels.path)
    default = None if settings.labels.use is None and len(label_sets) > 1 else choose(label_sets, settings.labels.use)
    running = _gateway(settings, label_sets, default)
    logs.configure(settings.observability)
    log = logs.logger("gateway")
    stop_on_signals(running.stop, settings.shutdown.drain_seconds + _LEAVE_SECONDS, log)
    try:
        running.run()
    except Exception as error:
        exit_code = log_end(log, error)
        if context.find_root().params["debug"]:
            raise
        raise typer.Exit(exit_code) from None


def _gateway(settings: Settings, label_sets: dict[str, LabelSet], default: LabelSet | None) -> Gateway:
    try:
        from stream_classifier.gateway.server import Gateway, Loaded  # noqa: PLC0415 - of the extra for the gateway
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the gateway takes {error.name}, which is not installed: run `pip install '.[gateway]'`"
        ) from error
    metrics = Metrics()
    ProcessCollector(registry=metrics.registry)

    def load() -> Loaded:
        log = logs.logger("gateway")
        return Loaded(*open_model(settings, list(label_sets.values()), metrics, log, top_k=settings.gateway.top_k))

    return Gateway(settings, label_sets, default, load=load, metrics=metrics)
