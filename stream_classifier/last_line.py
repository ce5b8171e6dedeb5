"""What a command says when it cannot go on: one line on standard error, and the exit code."""

from __future__ import annotations

import traceback
from pathlib import Path

import typer

from stream_classifier.errors import StreamClassifierError


def complain(name: str, message: str, *, debug: bool = False) -> None:
    """Write the line; with `debug` below the traceback of what is being handled.

    Args:
        name: The command's.
        message: What is wrong, and what to do next.
        debug: Whether a traceback was asked for.
    """
    if debug:
        traceback.print_exc()
    typer.echo(f"{name}: {' '.join(message.split())}", err=True)


def complain_of(error: Exception, name: str, *, debug: bool, debugging: str) -> int:
    """Make a line of what ended a command; called while it is handled.

    Args:
        error: What ended it.
        name: The command's.
        debug: Whether a traceback was asked for.
        debugging: How the command is called to show one.

    Returns:
        The exit code: 2 for wrong usage or unreadable settings, 1 for everything else.
    """
    if isinstance(error, StreamClassifierError):
        complain(name, str(error), debug=debug)
        return error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # wrong usage, as typer found it
        if message := error.format_message():  # without one, help has been shown instead
            complain(name, f"{message.rstrip('.')}; --help shows how it is used")
        return 2
    # A defect. Its message could quote a text, so only where it was is shown.
    place = traceback.extract_tb(error.__traceback__)[-1]
    complain(
        name,
        f"unexpected {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}; "
        f"`{debugging}` shows the traceback",
        debug=debug,
    )
    return 1
