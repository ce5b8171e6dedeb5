"""The command line: one file a command, and one place where errors become a line and an exit code."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from stream_classifier import __version__
from stream_classifier.last_line import complain, complain_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "stream-classifier"
# Each is imported only when it is asked for: `--help` need not wait for ONNX Runtime.
_COMMANDS = {
    "demo": "Label sample tickets on a real Kafka, with nothing set up.",
    "worker": "Label the events of the input topics.",
    "gateway": "Label texts for clients of HTTP.",
    "gateway-key": "Make a key for a client of the gateway.",
    "classify": "Label texts at hand, without Kafka.",
    "evaluate": "Say how well texts are labelled, by a labelled file.",
    "calibrate": "Fit a label set's temperature and thresholds to a labelled file.",
    "publish": "Publish a file to the input topic.",
    "watch": "Show labelled events, or dead letters, as they arrive.",
    "dead-letters": "List, show and redrive what could not be labelled.",
    "topics": "Make the topics that a settings file names.",
    "check": "Find everything that could keep a worker from working.",
    "model": "Show, verify or build a model.",
    "broker": "Run a real Kafka for development.",
}


class _LazyGroup(TyperGroup):
    """Finds each command in the module of its name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - a class of typer's inside
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - a class of typer's inside
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"stream_classifier.cli.{cmd_name.replace('-', '_')}")
        group = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(add_completion=False, rich_markup_mode=None)
            group.command(cmd_name)(getattr(module, cmd_name.replace("-", "_")))
        return typer.main.get_command(group)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - classes of typer's inside
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


app = typer.Typer(cls=_LazyGroup, add_completion=False, rich_markup_mode=None)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stream-classifier {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; they may hold parts of texts.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Label streams of short texts on Apache Kafka with labels chosen in plain words, without training.

    Example: stream-classifier demo
    """
    del debug, version  # read before anything can fail, in `run`


def main() -> None:
    """What the installed command runs."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; without any, say what there is.

    Returns:
        The exit code: 0 done, 1 something failed or was found, 2 wrong usage or unreadable settings, 130 interrupted.
    """
    debug = "--debug" in arguments
    try:
        return int(app(args=list(arguments) or ["--help"], prog_name=_NAME, standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        complain(_NAME, "interrupted")
        return 130
    except SystemExit:
        # How typer ends when whoever read the output has enough: quietly, but as if something had failed.
        return 0
    except Exception as error:  # noqa: BLE001 - the last place there is: it becomes a line and an exit code
        return complain_of(error, _NAME, debug=debug, debugging=f"{_NAME} --debug ...")
