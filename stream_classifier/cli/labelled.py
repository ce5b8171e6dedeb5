"""Labelled files: a text and the labels that somebody gave it, from JSON lines or CSV, read as they come."""

import difflib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
import typer

from stream_classifier.classify.labels import LabelSet
from stream_classifier.cli.texts import Format, Item, Lines, read_items
from stream_classifier.errors import UsageError
from stream_classifier.evaluation.calibration import Truths
from stream_classifier.events.decode import is_blank

TextColumn = Annotated[str | None, typer.Option(help="The column of the text in CSV; `text` by default.")]
LabelColumn = Annotated[str | None, typer.Option(help="The column of the label in CSV; `label` by default.")]
TextField = Annotated[
    str | None, typer.Option(help="Where the text is in JSON lines, a dotted path; `text` by default.")
]
LabelField = Annotated[
    str | None, typer.Option(help="Where the label is in JSON lines, a dotted path; `label` by default.")
]
Separator = Annotated[str, typer.Option(help="What stands between the labels of one text, where it may have several.")]


class Row(NamedTuple):
    """A text and its labels.

    Attributes:
        text: Not blank.
        gold: Places of its labels in the label set; exactly one in single mode.
    """

    text: str
    gold: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file of labelled texts; each time it is gone through it is read anew.

    Attributes:
        path: `.csv`; anything else is JSON lines, unless a column is named.
        text_column: Of the text, in CSV.
        label_column: Of the label, in CSV.
        text_field: Of the text, in JSON lines.
        label_field: Of the label, in JSON lines: a string, or in multi mode a list of strings, too.
        separator: Between labels in one string, in multi mode.
    """

    path: Path
    text_column: str | None = None
    label_column: str | None = None
    text_field: str | None = None
    label_field: str | None = None
    separator: str = ";"

    @property
    def form(self) -> Format:
        """What its lines are.

        Raises:
            UsageError: Options for both were given.
        """
        of_csv, of_json = self.text_column or self.label_column, self.text_field or self.label_field
        if of_csv and of_json:
            raise UsageError("--text-field and --label-field are for JSON lines, the columns for CSV: give one kind")
        return "csv" if of_csv or (not of_json and self.path.suffix.lower() == ".csv") else "jsonl"

    def rows(self, label_set: LabelSet) -> Iterator[Row]:
        """The texts, with places in this label set.

        Raises:
            UsageError: The file cannot be read.
            StreamClassifierError: A line cannot be read, its text is blank, or it has a label that the set lacks; says
                which line, and never what is in it.
        """
        form = self.form
        label_member = (self.label_column if form == "csv" else self.label_field) or "label"
        places = {name: place for place, name in enumerate(label_set.names)}
        with ExitStack() as stack:
            try:
                lines = Lines(stack.enter_context(self.path.open("rb")), str(self.path))
            except OSError as error:
                raise UsageError(f"{self.path}: cannot be read ({error.strerror})") from None
            items = read_items(
                lines, form, text_field=self.text_field or "text", text_column=self.text_column or "text", taken=None
            )
            for item in items:
                if is_blank(item.text):
                    raise lines.error("its text is blank: take such rows out first")
                names = self._names(lines, item, form, label_member, label_set)
                for name in names:
                    if name not in places:
                        raise lines.error(_unknown(name, label_set))
                yield Row(item.text, tuple(sorted({places[name] for name in names})))

    def _names(self, lines: Lines, item: Item, form: Format, member: str, label_set: LabelSet) -> list[str]:
        value: Any = orjson.loads(item.event)
        option = "--label-column" if form == "csv" else "--label-field"
        for name in [member] if form == "csv" else member.split("."):
            if not isinstance(value, dict) or name not in value:
                raise lines.error(f"has no {'column' if form == 'csv' else 'member'} {member}: name it with {option}")
            value = value[name]
        if label_set.mode == "single":
            if not isinstance(value, str) or not value.strip():
                raise lines.error(f"its label is not one name: {label_set.identity} gives each text exactly one")
            return [value.strip()]
        if isinstance(value, str):
            value = value.split(self.separator)
        if value is None:
            value = []
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise lines.error("its labels are neither a list of names nor names in one string")
        return [name.strip() for name in value if name.strip()]


def _unknown(name: str, label_set: LabelSet) -> str:
    """What is wrong with a label. It is not shown: it may be a text, if the wrong column was named."""
    near = difflib.get_close_matches(name, label_set.names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the first is {label_set.names[0]!r}"
    return f"its label is none of the {len(label_set.names)} of {label_set.identity} ({hint})"


def truths(rows: list[Row], labels: int) -> Truths:
    """Which labels each text has, [texts, labels]."""
    table: Truths = np.zeros((len(rows), labels), np.bool_)
    for place, row in enumerate(rows):
        table[place, list(row.gold)] = True
    return table
