"""Structured logs on standard error: JSON lines, or for people on a terminal. Never a user's text."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from stream_classifier.settings import ObservabilitySettings


def configure(settings: ObservabilitySettings) -> None:
    """Set the format and the level for the whole process."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry the name of the part that writes them."""
    return cast("FilteringBoundLogger", structlog.get_logger(part=name))
