"""What was found, for people at a terminal: tables, and pictures made of characters."""

import math
from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from stream_classifier.evaluation.calibration import BINS, Reliability
from stream_classifier.evaluation.results import Evaluation
from stream_classifier.evaluation.significance import Comparison

SHADES: Final = " ·░▒▓█"
"""From no texts to all texts of a row."""

_CONFUSIONS_SHOWN: Final = 10
_BAR: Final = 40


def share(value: float | None) -> str:
    """A share as people read it; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def headings(evaluations: Sequence[Evaluation]) -> list[str]:
    """What to call each: two may have the same label set, or the same model."""
    if len(evaluations) == 1:
        return [evaluations[0].label_set]
    return [f"{place}: {one.label_set}" for place, one in zip(("first", "second"), evaluations, strict=True)]


def decided_by(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[str]]]:
    """How much each model of a cascade decided, and how well: a title and a cell for each evaluation."""
    tasks = dict.fromkeys(each.task for one in evaluations for each in one.decided_by)
    cells = [
        {each.task: f"{share(each.share)}, {share(each.accuracy)} of it right" for each in one.decided_by}
        for one in evaluations
    ]
    return [(f"decided by {task}", [of_one.get(task, share(None)) for of_one in cells]) for task in tasks]


def summary(evaluations: Sequence[Evaluation]) -> Table:
    """The figures, a column for each evaluation."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in headings(evaluations):
        table.add_column(Text(heading), justify="right")
    whole = "all labels right" if evaluations[0].mode == "multi" else "accuracy"
    rows = [
        ("model", [one.model for one in evaluations]),
        ("texts", [f"{one.texts:,}" for one in evaluations]),
        (whole, [share(one.accuracy) for one in evaluations]),
        ("balanced accuracy", [share(one.balanced) for one in evaluations]),
        ("macro F1", [share(one.macro_f1) for one in evaluations]),
        ("ECE", [share(one.ece) for one in evaluations]),
        ("coverage", [share(one.coverage) for one in evaluations]),
        ("accuracy of those", [share(one.accuracy_of_answered) for one in evaluations]),
        ("texts/s", [f"{one.texts_per_second:,.0f}" for one in evaluations]),
    ]
    rows += decided_by(evaluations)
    for title, found in (
        ("truncated", [one.truncated for one in evaluations]),
        ("failed", [one.failed for one in evaluations]),
        ("are examples, too", [one.examples_seen for one in evaluations]),
    ):
        if any(found):
            rows.append((title, [f"{number:,}" for number in found]))
    for title, values in rows:
        table.add_row(title, *(Text(value) for value in values))
    return table


def comparison(found: Comparison) -> Text:
    """What the difference of two evaluations is worth, in a sentence."""
    low, high = found.interval
    return Text(
        f"The second is right {found.difference:+.3f} more often (95 % interval {low:+.3f} to {high:+.3f}; McNemar "
        f"p = {found.p_value:.2g}): {found.only_second:,} texts right only there, {found.only_first:,} only before."
    )


def by_label(evaluations: Sequence[Evaluation]) -> Table:
    """Each label; with two evaluations the F1 of both."""
    first = evaluations[0]
    table = Table(box=None, pad_edge=False)
    for column in ("", "label"):
        table.add_column(column)
    for column in ("precision", "recall", "F1", "texts", "given", "threshold"):
        table.add_column(column, justify="right")
    others: dict[str, str] = {}
    if len(evaluations) > 1:
        table.add_column("F1 of the second", justify="right")
        others = {label.name: share(label.f1) for label in evaluations[1].labels}
    for number, label in enumerate(first.labels, 1):
        cells = [share(label.precision), share(label.recall), share(label.f1)]
        cells += [f"{label.support:,}", f"{label.given:,}", f"{label.threshold:.4g}"]
        if others:
            cells.append(others.get(label.name, "-"))
        table.add_row(str(number), Text(label.name), *cells)
    return table


def confusion(one: Evaluation, width: int) -> RenderableType:
    """A picture of what is taken for what: a row for each label, as dark as the share of its texts that got which."""
    labels = len(one.labels)
    digits = len(str(labels))
    title = Text("What the texts of each label (rows, by number) got (columns; the last is nothing):", style="bold")
    lines = [title]
    if labels + digits + 3 <= width:
        cell = 2 if 2 * labels + digits + 3 <= width else 1
        heads = [str(number).rjust(digits) for number in range(1, labels + 1)] + ["-".rjust(digits)]
        lines += [
            Text(" " * (digits + 1) + "".join(head[place].ljust(cell) for head in heads)) for place in range(digits)
        ]
        for number, counts in enumerate(one.confusion.tolist(), 1):
            line = Text(f"{number:>{digits}} ")
            total = sum(counts) or 1
            for column, count in enumerate(counts):
                shade = SHADES[math.ceil(count / total * (len(SHADES) - 1))]
                line.append(shade * cell, style="green" if column == number - 1 else "red")
            lines.append(line)
    else:
        lines.append(Text(f"{labels} labels do not fit into {width} columns: --png and --html draw them."))
    return Group(*lines, _most_frequent(one))


def _most_frequent(one: Evaluation) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("texts", justify="right")
    for column in ("of", "got"):
        table.add_column(column)
    for each in one.confusions(_CONFUSIONS_SHOWN):
        table.add_row(
            f"{each.texts:,}", Text(each.gold), Text(each.given or "nothing", style="" if each.given else "dim")
        )
    return table if table.row_count else Text("No text got another label than its own.")


def reliability(found: Reliability) -> Table:
    """A picture of whether scores say how often they are right: a bar for the share, and a line for the score."""
    table = Table(box=None, pad_edge=False)
    for column in ("scores", "number", "mean", "right"):
        table.add_column(column, justify="right")
    table.add_column("share that is right; | is the mean score")
    for place, (count, total, right) in enumerate(zip(*(part.tolist() for part in found), strict=True)):
        if not count:
            continue
        bar = list(("█" * round(right / count * _BAR)).ljust(_BAR + 1))
        bar[round(total / count * _BAR)] = "|"
        bounds = f"{place / BINS:.2f}-{(place + 1) / BINS:.2f}"
        table.add_row(bounds, f"{int(count):,}", share(total / count), share(right / count), "".join(bar).rstrip())
    return table


def show(console: Console, evaluations: Sequence[Evaluation], compared: Comparison | None) -> None:
    """Print all of it."""
    console.print(summary(evaluations))
    if compared:
        console.print()
        console.print(comparison(compared))
    console.print()
    console.print(by_label(evaluations))
    for heading, one in zip(headings(evaluations), evaluations, strict=True):
        console.print()
        console.print(Text(heading, style="bold"))
        console.print(confusion(one, console.width))
        console.print()
        console.print(reliability(one.reliability))
