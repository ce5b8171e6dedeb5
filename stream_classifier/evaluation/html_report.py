"""What was found, as one HTML file: it holds its pictures, and fetches nothing."""

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

import numpy as np

from stream_classifier.evaluation.calibration import BINS, Reliability
from stream_classifier.evaluation.results import Evaluation
from stream_classifier.evaluation.significance import Comparison
from stream_classifier.evaluation.terminal import comparison, decided_by, headings, share

_CONFUSIONS_SHOWN: Final = 30
_PLOT: Final = 300

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>How well texts are labelled</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
svg { margin: 1rem 1rem 1rem 0; max-width: 100%; height: auto }
svg text { font: 9px system-ui, sans-serif; fill: #222 }
</style>
</head>
<body>
"""


class Mistake(NamedTuple):
    """A text that was labelled wrong.

    Attributes:
        score: Of what it got, or would have got.
        text: The text.
        gold: The labels it has.
        given: The labels it got.
    """

    score: float
    text: str
    gold: tuple[str, ...]
    given: tuple[str, ...]


def report(evaluations: Sequence[Evaluation], compared: Comparison | None, mistakes: Sequence[Mistake]) -> str:
    """The whole file.

    Args:
        evaluations: One, or two that are compared.
        compared: The comparison of two.
        mistakes: Texts to show, the most confident first; with none, no text is in the report.
    """
    parts = [_HEAD, "<h1>How well texts are labelled</h1>", _summary(evaluations)]
    if compared:
        parts.append(f"<p>{escape(comparison(compared).plain)}</p>")
    parts += ["<h2>Labels</h2>", _labels(evaluations)]
    for title, one in zip(headings(evaluations), evaluations, strict=True):
        parts += [f"<h2>What is taken for what: {escape(title)}</h2>", _confusion(one), _confusions(one)]
        parts += [f"<h2>Scores, and how often they are right: {escape(title)}</h2>", _reliability(one.reliability)]
    if mistakes:
        parts += ["<h2>Wrong, and sure of it</h2>", _mistakes(mistakes)]
    return "\n".join([*parts, "</body>", "</html>", ""])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    def cell(tag: str, value: str | float | None) -> str:
        number = not isinstance(value, str)
        text = share(value) if value is None or isinstance(value, float) else f"{value:,}" if number else str(value)
        return f"<{tag}{' class=number' if number else ''}>{escape(text)}</{tag}>"

    head = "".join(f"<th>{escape(title)}</th>" for title in heads)
    body = "".join(f"<tr>{''.join(cell('td', value) for value in row)}</tr>\n" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}</table>"


def _summary(evaluations: Sequence[Evaluation]) -> str:
    cascades: list[list[str | float | None]] = [[title, *cells] for title, cells in decided_by(evaluations)]
    rows: list[list[str | float | None]] = [
        ["model", *(one.model for one in evaluations)],
        ["texts", *(one.texts for one in evaluations)],
        ["all labels right" if evaluations[0].mode == "multi" else "accuracy", *(one.accuracy for one in evaluations)],
        ["balanced accuracy", *(one.balanced for one in evaluations)],
        ["macro F1", *(one.macro_f1 for one in evaluations)],
        ["expected calibration error", *(one.ece for one in evaluations)],
        ["coverage: texts that got a label", *(one.coverage for one in evaluations)],
        ["accuracy of those", *(one.accuracy_of_answered for one in evaluations)],
        *cascades,
        ["texts a second", *(round(one.texts_per_second) for one in evaluations)],
        ["truncated", *(one.truncated for one in evaluations)],
        ["failed, and left out", *(one.failed for one in evaluations)],
        ["are examples of the label set, too", *(one.examples_seen for one in evaluations)],
    ]
    return _table(["", *headings(evaluations)], rows)


def _labels(evaluations: Sequence[Evaluation]) -> str:
    heads = ["label", "precision", "recall", "F1", "texts", "given", "threshold"]
    others = {label.name: label.f1 for label in evaluations[1].labels} if len(evaluations) > 1 else {}
    rows: list[list[str | float | None]] = []
    for label in evaluations[0].labels:
        row: list[str | float | None] = [label.name, label.precision, label.recall, label.f1]
        row += [label.support, label.given, label.threshold]
        rows.append([*row, others.get(label.name)] if others else row)
    return _table([*heads, "F1 of the second"] if others else heads, rows)


def _confusions(one: Evaluation) -> str:
    rows = [(each.texts, each.gold, each.given or "nothing") for each in one.confusions(_CONFUSIONS_SHOWN)]
    return _table(["texts", "of", "got"], rows) if rows else "<p>No text got another label than its own.</p>"


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    return _table(
        ["score", "text", "label", "got"],
        [(each.score, each.text, ", ".join(each.gold), ", ".join(each.given) or "nothing") for each in mistakes],
    )


def _confusion(one: Evaluation) -> str:
    """A row for each label, as dark as the share of its texts that got which; each square says what it is."""
    names = [label.name for label in one.labels]
    side = max(3, min(24, 640 // (len(names) + 1)))
    margin = 150 if side >= 9 else 4  # noqa: PLR2004 - smaller names cannot be read
    width, height = margin + side * (len(names) + 1) + 4, side * len(names) + 4
    marks = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">']
    if margin > side:
        marks += [
            f'<text x="{margin - 4}" y="{side * row + side * 0.7:.0f}" text-anchor="end">{escape(name[:28])}</text>'
            for row, name in enumerate(names)
        ]
    totals = np.maximum(one.confusion.sum(axis=1), 1)
    marks.append(
        f'<rect x="{margin}" y="0" width="{side * (len(names) + 1)}" height="{side * len(names)}" fill="#f4f4f4"/>'
    )
    for row, column in zip(*(places.tolist() for places in np.nonzero(one.confusion)), strict=True):
        count = int(one.confusion[row, column])
        colour = "#2a7" if row == column else "#c33"
        given = [*names, "nothing"][column]
        marks.append(
            f'<rect x="{margin + side * column}" y="{side * row}" width="{side}" height="{side}" fill="{colour}" '
            f'fill-opacity="{count / totals[row]:.2f}"><title>{escape(names[row])} got {escape(given)}: {count:,}'
            "</title></rect>"
        )
    return "\n".join([*marks, "</svg>"])


def _reliability(found: Reliability) -> str:
    """A bar for the share that is right in each bin of scores; the line is where both are the same."""
    wide = _PLOT / BINS
    marks = [
        f'<svg viewBox="-30 -10 {_PLOT + 50} {_PLOT + 40}" width="{_PLOT + 50}" height="{_PLOT + 40}" role="img">',
        f'<rect x="0" y="0" width="{_PLOT}" height="{_PLOT}" fill="#f4f4f4"/>',
    ]
    for place, (count, total, right) in enumerate(zip(*(part.tolist() for part in found), strict=True)):
        if count:
            tall = _PLOT * right / count
            marks.append(
                f'<rect x="{place * wide + 1:.1f}" y="{_PLOT - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}" '
                f'fill="#27c" fill-opacity=".7"><title>{int(count):,}: mean score {total / count:.3f}, right '
                f"{right / count:.3f}</title></rect>"
            )
    marks += [
        f'<line x1="0" y1="{_PLOT}" x2="{_PLOT}" y2="0" stroke="#222"/>',
        f'<text x="0" y="{_PLOT + 14}">0</text><text x="{_PLOT - 6}" y="{_PLOT + 14}">1</text>',
        f'<text x="{_PLOT / 2 - 20:.0f}" y="{_PLOT + 24}">mean score</text>',
        '<text x="-14" y="8">1</text>',
        f'<text transform="rotate(-90)" x="-{_PLOT / 2 + 40:.0f}" y="-16">share that is right</text>',
        "</svg>",
    ]
    return "\n".join(marks)
