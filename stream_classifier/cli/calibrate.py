"""`stream-classifier calibrate`: a temperature and thresholds for a label set, by a file of labelled texts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
from stream_classifier.evaluation import picture, terminal, write_back
from stream_classifier.evaluation.calibration import Truths
from stream_classifier.evaluation.fitting import TEMPERATURES
from stream_classifier.evaluation.proposal import Proposal, propose

FEWEST_TEXTS: Final = 20
_END: Final = 1.05
"""How near to its bounds a temperature is as good as there."""
_ROUNDS: Final = 5
"""How often a cascade is asked again, at most."""
_SAME: Final = 1.02
"""By which factor two temperatures are the same."""
_SAME_THRESHOLD: Final = 0.02
_PLAIN_WIDTH: Final = 200
"""Columns of the tables where there is no terminal."""


def calibrate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled texts: .csv or JSON lines.")],
    *,
    labels: Annotated[Path, typer.Option(metavar="FILE", help="The YAML file of the label set.")],
    accuracy: Annotated[
        float,
        typer.Option(min=0, max=1, help="Single mode: the share of given labels that has to be right; sets threshold."),
    ] = 0.9,
    keep_thresholds: Annotated[bool, typer.Option("--keep-thresholds", help="Propose a temperature only.")] = False,
    texts: Annotated[
        int, typer.Option(min=FEWEST_TEXTS, metavar="N", help="Use N texts of the file, drawn at random.")
    ] = 20_000,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    text_field: TextField = None,
    label_field: LabelField = None,
    separator: Separator = ";",
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the reliability diagrams.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write it into the label set's file, as its next version.")
    ] = False,
    model: ModelOption = None,
    config: WorkersModelOption = None,
) -> None:
    """Propose a temperature and thresholds, so that scores say how often they are right.

    Example: stream-classifier calibrate labelled.csv --labels config/labels/support.yaml --write
    """
    if png:
        picture.require()
    if write:
        write_back.require()
        if labels.is_dir():
            raise UsageError(f"{labels}: is a directory; name the label set's file, so that it can be written")
    label_set = choose(load_label_sets(labels), None)
    source = LabelledFile(file, text_column, label_column, text_field, label_field, separator)
    used = _use(source, label_set, texts, ChosenModel.by_options(model, config))

    def proposed(scores: Floats) -> Proposal:
        return propose(
            label_set,
            scores,
            used.truths,
            accuracy=accuracy,
            with_thresholds=not keep_thresholds,
            scores_now=used.scores,
        )

    proposal, settled = _settled(label_set, used, proposed)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH, highlight=False)
    _show(console, label_set, proposal, used, accuracy=accuracy)
    if not settled:
        console.print(
            Text(
                f"After {_ROUNDS} rounds what is proposed still changes which model decides, and that the proposal: "
                "see what evaluate says of it."
            )
        )
    if png:
        picture.draw_reliability(png, proposal.reliability_before, proposal.reliability_after)
    fitted = _with(label_set, proposal)
    if write:
        write_back.write_back(labels, fitted)
        console.print(Text(f"\nwritten to {labels}, now {fitted.identity}"))
    else:
        console.print(Text(f"\n{_to_paste(proposal)}\n\n--write puts this into {labels}"))


class _Used(NamedTuple):
    """What is calibrated with.

    Attributes:
        scores: At temperature 1, [texts, labels]; of a cascade, as it gives them with the label set as it is.
        truths: Which labels each text has, [texts, labels].
        examples: Texts that were left out, since they are examples of the label set.
        model: Identity of the model.
        again: Of a cascade, the same scores with another temperature and other thresholds, by which it finds what is in
            doubt; None for one model, whose scores do not depend on them.
    """

    scores: Floats
    truths: Truths
    examples: int
    model: str
    again: Callable[[LabelSet], Floats] | None


def _use(source: LabelledFile, label_set: LabelSet, most: int, model: ChosenModel) -> _Used:
    examples = {example for label in label_set.labels for example in label.examples}
    are_examples = np.array([row.text in examples for row in source.rows(label_set)], np.bool_)
    usable = np.flatnonzero(~are_examples)
    if len(usable) < FEWEST_TEXTS:
        raise StreamClassifierError(
            f"{source.path}: it takes {FEWEST_TEXTS} labelled texts that are no examples, and there are {len(usable)}"
        )
    if len(usable) > most:
        usable = np.random.default_rng(0).choice(usable, most, replace=False)
    chosen = np.zeros(len(are_examples), np.bool_)
    chosen[usable] = True

    def rows() -> Iterator[Row]:
        return (row for row, use in zip(source.rows(label_set), chosen.tolist(), strict=True) if use)

    classifier = Classifier(model.open(), results_cached=0)
    classifier.prepare([label_set])

    def at_one(fitted: LabelSet) -> tuple[Floats, Truths, bool]:
        """Scores at temperature 1, which labels the texts have, and whether a cascade gave the scores."""
        all_scores, all_truths, cascade = [], [], False
        with progress_bar(label_set.identity, len(usable)) as advance:
            for window, found in scored(classifier, fitted, rows(), advance, temperature=1.0):
                for failure in found.failures.values():
                    raise StreamClassifierError(f"{source.path}: {failure.message}")
                all_scores.append(found.scores)
                all_truths.append(truths(window, len(label_set.labels)))
                cascade = found.decided_by is not None
        return np.concatenate(all_scores), np.concatenate(all_truths), cascade

    scores, right, cascade = at_one(label_set)
    again = (lambda fitted: at_one(fitted)[0]) if cascade else None
    return _Used(scores, right, int(are_examples.sum()), classifier.model, again)


def _settled(label_set: LabelSet, used: _Used, proposed: Callable[[Floats], Proposal]) -> tuple[Proposal, bool]:
    """What is proposed, and whether it would be proposed again with itself in place.

    A cascade finds what is in doubt by the temperature, in multi mode by the thresholds, too: so its scores change with
    what is fitted to them, and are asked for again.
    """
    proposal = proposed(used.scores)
    if used.again is None:
        return proposal, True
    for _ in range(_ROUNDS):
        scores = used.again(_with(label_set, proposal))
        before, proposal = proposal, proposed(scores)
        if 1 / _SAME < proposal.temperature / before.temperature < _SAME and all(
            abs(value - before.thresholds.get(name, value)) < _SAME_THRESHOLD
            for name, value in proposal.thresholds.items()
        ):
            return proposal, True
    return proposal, False


def _with(label_set: LabelSet, proposal: Proposal) -> LabelSet:
    return write_back.calibrated(label_set, proposal.temperature, proposal.threshold, proposal.thresholds)


def _show(console: Console, label_set: LabelSet, proposal: Proposal, used: _Used, *, accuracy: float) -> None:
    left_out = f"; {used.examples:,} examples of the label set left out" if used.examples else ""
    console.print(Text(f"{label_set.identity}, {used.model}, {len(used.scores):,} texts{left_out}", style="bold"))
    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(("", "temperature", "loss, nats", "ECE")):
        table.add_column(column, justify="right" if place else "left")
    table.add_row(
        "now",
        f"{label_set.temperature:.3g}",
        terminal.share(proposal.loss_before),
        terminal.share(proposal.reliability_before.error),
    )
    table.add_row(
        "proposed, measured on texts it was not fitted on",
        f"{proposal.temperature:.3g}",
        terminal.share(proposal.loss_after),
        terminal.share(proposal.reliability_after.error),
    )
    console.print(table)
    if (
        proposal.temperature in TEMPERATURES
        or not TEMPERATURES[0] * 1.05 < proposal.temperature < TEMPERATURES[1] / 1.05
    ):
        console.print(Text("The temperature is at the end of what is tried: these texts are too few or too easy."))
    console.print()
    console.print(terminal.reliability(proposal.reliability_after))
    if label_set.mode == "single":
        _show_trade_off(console, proposal, accuracy)
        if proposal.threshold is not None and any(label.threshold is not None for label in label_set.labels):
            console.print(Text("Labels with a threshold of their own keep it; this is the set's."))
    elif proposal.by_label:
        _show_by_label(console, proposal)


def _show_trade_off(console: Console, proposal: Proposal, accuracy: float) -> None:
    if not proposal.trade_off:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("to have right", "threshold", "texts with a label", "of those right"):
        table.add_column(column, justify="right")
    for target, answered in proposal.trade_off:
        mark = " <" if target == accuracy else ""
        if answered is None:
            table.add_row(f"{target:.2f}", "none", "-", f"-{mark}")
        else:
            table.add_row(
                f"{target:.2f}",
                f"{answered.threshold:.4g}",
                terminal.share(answered.coverage),
                f"{terminal.share(answered.accuracy)}{mark}",
            )
    console.print()
    console.print(
        Text("Thresholds by the share of given labels that has to be right; shares are of texts not fitted on:")
    )
    console.print(table)


def _show_by_label(console: Console, proposal: Proposal) -> None:
    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(("label", "texts", "threshold now", "F1", "proposed", "F1 on texts not fitted on")):
        table.add_column(column, justify="right" if place else "left")
    for label in proposal.by_label:
        proposed = "too few texts" if label.threshold is None else f"{label.threshold:.4g}"
        table.add_row(
            Text(label.name),
            f"{label.support:,}",
            f"{label.threshold_now:.4g}",
            terminal.share(label.f1_now),
            proposed,
            terminal.share(label.f1),
        )
    console.print()
    console.print(Text("Thresholds with the best F1 of each label:"))
    console.print(table)


def _to_paste(proposal: Proposal) -> str:
    lines = [f"temperature: {proposal.temperature:g}"]
    if proposal.threshold is not None:
        lines.append(f"threshold: {proposal.threshold:g}")
    lines += [f"# {name}\n    threshold: {value:g}" for name, value in proposal.thresholds.items()]
    return "\n".join(lines)
