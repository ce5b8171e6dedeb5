"""`stream-classifier evaluate`: how well a label set and a model label texts that somebody has labelled."""

import heapq
import time
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import numpy as np
import orjson
import typer
from rich.console import Console

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.cosine_scores import Floats
from stream_classifier.classify.labels import LabelSet, choose, load_label_sets
from stream_classifier.cli.chosen_model import ChosenModel, ModelOption, WorkersModelOption
from stream_classifier.cli.labelled import (
    LabelColumn,
    LabelField,
    LabelledFile,
    Row,
    Separator,
    TextColumn,
    TextField,
    truths,
)
from stream_classifier.cli.scoring import progress_bar, scored
from stream_classifier.errors import StreamClassifierError, UsageError
from stream_classifier.evaluation import picture, terminal
from stream_classifier.evaluation.calibration import Truths
from stream_classifier.evaluation.html_report import Mistake, report
from stream_classifier.evaluation.results import Evaluation, evaluation
from stream_classifier.evaluation.significance import Comparison
from stream_classifier.evaluation.tally import Tally, given

_PLAIN_WIDTH: Final = 200
"""Columns of the tables where there is no terminal."""


def evaluate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled texts: .csv or JSON lines.")],
    *,
    labels: Annotated[Path, typer.Option(metavar="FILE", help="The YAML file of the label set.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Compare with another label set (.yaml) or model (a bundle's directory)."),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    text_field: TextField = None,
    label_field: LabelField = None,
    separator: Separator = ";",
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report that needs no other file.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw what is taken for what.")] = None,
    show_texts: Annotated[
        int, typer.Option(min=0, max=1000, metavar="N", help="Show N texts with wrong labels in the HTML report.")
    ] = 0,
    model: ModelOption = None,
    config: WorkersModelOption = None,
) -> None:
    """Say how well texts are labelled, by a file of texts that somebody has labelled.

    Example: stream-classifier evaluate labelled.csv --labels config/labels/support.yaml --html report.html
    """
    if show_texts and not html:
        raise UsageError("--show-texts is for the report: name one with --html")
    if png:
        picture.require()
    source = LabelledFile(file, text_column, label_column, text_field, label_field, separator)
    sets, models = _contenders(labels, ChosenModel.by_options(model, config), against)
    # All of the file is read before the model is: a wrong label in its last line is known at once.
    counts = [sum(1 for _ in source.rows(label_set)) for label_set in sets[: 1 if sets[0] is sets[-1] else 2]]
    if not counts[0]:
        raise StreamClassifierError(f"{file}: there is no text in it")
    found = [
        _found(source, label_set, chosen, counts[0], show_texts) for label_set, chosen in zip(sets, models, strict=True)
    ]
    evaluations = [one.evaluation for one in found]
    compared = None
    if against:
        first, second = found
        both = ~(first.failed | second.failed)
        compared = Comparison.of(first.right[both], second.right[both])
    if png:
        picture.draw_confusion(png, evaluations)
    if html:
        _write(html, report(evaluations, compared, found[0].mistakes))
    if as_json:
        content = {"evaluations": [one.as_json() for one in evaluations]}
        typer.echo(orjson.dumps(content | ({"comparison": compared.as_json()} if compared else {})).decode())
    else:
        console = Console()
        terminal.show(
            console if console.is_terminal else Console(width=_PLAIN_WIDTH, highlight=False), evaluations, compared
        )
    if failed := max(one.failed for one in evaluations):
        raise StreamClassifierError(f"{failed} of {counts[0]} texts could not be labelled, and are in no figure")


def _contenders(labels: Path, model: ChosenModel, against: Path | None) -> tuple[list[LabelSet], list[ChosenModel]]:
    """The label sets, and for each of them the model; one, or two that are compared."""
    label_set = choose(load_label_sets(labels), None)
    if not against:
        return [label_set], [model]
    if against.suffix not in {".yaml", ".yml"}:
        return [label_set, label_set], [model, ChosenModel(against)]
    other = choose(load_label_sets(against), None)
    if label_set.mode != other.mode:
        raise UsageError("one label set is single and the other multi: what they say cannot be compared")
    return [label_set, other], [model, model]


class _Found(NamedTuple):
    """What came of a label set and a model.

    Attributes:
        evaluation: All figures.
        right: Which texts got just the labels that they should, [texts].
        failed: Which texts the model failed on, [texts].
        mistakes: Texts with wrong labels, the most confident first.
    """

    evaluation: Evaluation
    right: Truths
    failed: Truths
    mistakes: list[Mistake]


def _found(source: LabelledFile, label_set: LabelSet, model: ChosenModel, count: int, show_texts: int) -> _Found:
    classifier = Classifier(model.open(), results_cached=0)
    classifier.prepare([label_set])
    examples = {example for label in label_set.labels for example in label.examples}
    tally, mistakes = Tally(label_set), _Mistakes(label_set, show_texts)
    right, failed = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    truncated = seen = start = 0
    begin = time.perf_counter()
    with progress_bar(label_set.identity, count) as advance:
        for rows, found in scored(classifier, label_set, source.rows(label_set), advance):
            kept = np.array([place not in found.failures for place in range(len(rows))])
            gold = truths(rows, len(label_set.labels))
            window = slice(start, start + len(rows))
            failed[window] = ~kept
            decided_by = [by for by, keep in zip(found.decided_by or (), kept.tolist(), strict=False) if keep]
            right[window][kept] = tally.add(found.scores[kept], gold[kept], decided_by)
            mistakes.add(rows, found.scores, right[window] | ~kept)
            truncated += int(np.array(found.truncated)[kept].sum())
            seen += sum(row.text in examples for row in rows)
            start += len(rows)
    if not tally.texts:
        raise StreamClassifierError(f"{source.path}: the model fails on each of the {count} texts")
    figures = evaluation(
        tally,
        model=classifier.model,
        failed=int(failed.sum()),
        truncated=truncated,
        examples_seen=seen,
        seconds=time.perf_counter() - begin,
    )
    return _Found(figures, right, failed, mistakes.most_confident())


class _Mistakes:
    """The texts with wrong labels that had the highest scores: no more are kept than will be shown."""

    def __init__(self, label_set: LabelSet, most: int) -> None:
        self._label_set = label_set
        self._most = most
        self._kept: list[tuple[float, int, Row, tuple[int, ...]]] = []  # a heap; the number keeps rows from comparison
        self._seen = 0

    def add(self, rows: list[Row], scores: Floats, right: Truths) -> None:
        """Keep those of these texts that are wrong, and surer than others."""
        if not self._most:
            return
        got = given(self._label_set, scores)
        for place in np.flatnonzero(~right).tolist():
            self._seen += 1
            labels = tuple(np.flatnonzero(got[place]).tolist())
            heapq.heappush(self._kept, (float(scores[place].max()), -self._seen, rows[place], labels))
            if len(self._kept) > self._most:
                heapq.heappop(self._kept)

    def most_confident(self) -> list[Mistake]:
        """Those that were kept."""
        names = self._label_set.names
        return [
            Mistake(score, row.text, tuple(names[place] for place in row.gold), tuple(names[place] for place in got))
            for score, _, row, got in sorted(self._kept, reverse=True)
        ]


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
