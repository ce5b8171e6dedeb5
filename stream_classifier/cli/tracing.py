"""Traces as the settings ask for them, for the commands that run a worker or check one's settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stream_classifier.errors import SettingsError
from stream_classifier.tracing import Untraced

if TYPE_CHECKING:
    from stream_classifier.settings import Settings
    from stream_classifier.tracing import Tracing


def open_tracing(settings: Settings) -> Tracing:
    """Whoever follows events.

    Raises:
        SettingsError: Tracing is on, and OpenTelemetry is not installed, or its environment variables cannot be used.
    """
    if not settings.observability.tracing or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Untraced()
    try:
        from stream_classifier.spans import open_spans  # noqa: PLC0415 - of the extra for tracing
    except ModuleNotFoundError as error:
        raise SettingsError(
            "observability.tracing is on, and OpenTelemetry is not installed: "
            "run `pip install '.[otel]'`, or set it to false"
        ) from error
    return open_spans(settings)
