"""What is written into pages from the code: the tables of settings and of metrics, and what commands say of themselves.

    python docs/making/reference.py     writes all three between the marks in their pages

A test compares the pages with what this would write.
"""

from __future__ import annotations

import os
from pathlib import Path

from typer.testing import CliRunner

from stream_classifier import cli
from stream_classifier.metric_catalogue import catalogue
from stream_classifier.settings_reference import table as settings

DOCS = Path(__file__).parents[1]
BEGIN, END = "<!-- written by `python docs/making/reference.py`: begin -->", "<!-- end -->"
_GROUPS = {"dead-letters": ("list", "show", "redrive"), "model": ("show", "verify", "build"), "topics": ("create",)}
_WIDTH = "100"


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
    names = [name for command in cli._COMMANDS for name in ([command, each] for each in _GROUPS.get(command, ("",)))]
    os.environ["TERMINAL_WIDTH"] = _WIDTH
    parts = []
    for words in names:
        arguments = [word for word in words if word]
        shown = CliRunner().invoke(cli.app, [*arguments, "--help"], prog_name="stream-classifier", terminal_width=100)
        name = " ".join(arguments)
        parts += [f"### {name}", "", "```text", shown.output.rstrip(), "```", ""]
    return "\n".join(parts).rstrip()


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
