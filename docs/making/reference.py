"""What is written into pages from the code: the tables of settings and of metrics, and what commands say of themselves.

    python docs/making/reference.py     writes all three between the marks in their pages

A test compares the pages with what this would write.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.testing import CliRunner

from stream_classifier import cli
from stream_classifier.metric_catalogue import catalogue
from stream_classifier.settings_reference import table as settings

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[1]
BEGIN, END = "<!-- written by `python docs/making/reference.py`: begin -->", "<!-- end -->"
_WIDTH = 100


def metrics() -> str:
    """Every metric as a row of a Markdown table: its name, its labels, what it says; by kind."""
    parts = []
    for kind, begin in {
        "counter": "Counters only grow; `rate(...[5m])` is what happens a second.",
        "gauge": "Gauges are as they are at the moment.",
        "histogram": "Histograms have series that end with `_bucket`, `_sum` and `_count`.",
    }.items():
        rows = [
            f"| `{metric.name}` | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
            for metric in catalogue()
            if metric.kind == kind
        ]
        parts += [f"### {kind.title()}s", "", begin, "", "| name | labels | what it says |", "|---|---|---|", *rows, ""]
    return "\n".join(parts).rstrip()


def commands() -> str:
    """What `--help` shows of each command."""
    parts = []
    for words in _commands(typer.main.get_command(cli.app), ()):
        shown = CliRunner().invoke(cli.app, [*words, "--help"], prog_name="stream-classifier", terminal_width=_WIDTH)
        parts += [f"### {' '.join(words)}", "", "```text", shown.output.rstrip(), "```", ""]
    return "\n".join(parts).rstrip()


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - a class of typer's inside
    """The words of each command below this one; of a group of commands those of its members."""
    if not hasattr(command, "list_commands"):
        yield words
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from _commands(command.get_command(context, name), (*words, name))


PAGES = {"configuration.md": settings, "metrics.md": metrics, "commands.md": commands}


def updated(document: str, content: str) -> str:
    """A Markdown document with this between its marks.

    Raises:
        ValueError: It does not have the two marks, once and in their order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}, once each, to write between")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def main() -> None:
    """Write all of them."""
    for name, content in PAGES.items():
        page = DOCS / name
        page.write_text(updated(page.read_text(encoding="utf-8"), content()), encoding="utf-8")


if __name__ == "__main__":
    main()
