"""`stream-classifier classify`: labels for texts at hand, without Kafka."""

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, cast

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from stream_classifier.classify.classification import Classification, Failure
from stream_classifier.classify.classifier import Classified, Classifier, Request
from stream_classifier.classify.labels import LabelSet, choose, load_label_sets
from stream_classifier.classify.opening import open_scorer
from stream_classifier.cli.texts import MEMBER, Format, Item, Lines, from_text, read_items
from stream_classifier.cores import available_cores
from stream_classifier.errors import StreamClassifierError, UsageError
from stream_classifier.events.decode import is_blank
from stream_classifier.events.enrich import Enricher
from stream_classifier.settings import InputSettings, OutputSettings

if TYPE_CHECKING:
    from io import BufferedIOBase

WINDOW: Final = 256
"""Texts that are classified together at most; fewer when no more are there yet."""

_FORMATS: Final[dict[str, Format]] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "lines"}
_BLANK: Final = Failure("the text is empty, or only white space and format characters", "text_blank")

Result = tuple[Item, Classification | Failure]


def classify(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; when none is given, --input or standard input.")
    ] = None,
    *,
    labels: Annotated[str, typer.Option(help="Names with commas between, or the YAML file of a label set.")],
    multi: Annotated[bool, typer.Option("--multi", help="Give every label that fits, not the best one.")] = False,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Give no label under this score: 0 by default, 0.5 with --multi.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="What the model reads for a label, with {} in the place of its name.")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many labels to list for each text.")] = 5,
    input_file: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="A file: .jsonl, .csv, or a line a text.")
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(help="Where the text is in JSON lines, a dotted path; `text` by default.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="The column of the text in CSV; `text` by default.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JSON lines to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines on a terminal, too.")] = False,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A model bundle; the built-in model by default.")
    ] = None,
) -> None:
    """Label texts from the command line, a pipe or a file, without Kafka.

    Example: stream-classifier classify "外卖送得太慢了" "I want my money back" --labels "delivery,refund,payment"
    """
    label_set = _label_set(labels, multi=multi, threshold=threshold, template=template)
    if text_field is not None and text_column is not None:
        raise UsageError("--text-field is for JSON lines and --text-column for CSV: give one of them")
    form: Format | None = "csv" if text_column is not None else "jsonl" if text_field is not None else None
    with ExitStack() as stack:
        items, lines = _items(texts or [], input_file, form, text_field or "text", text_column or "text", stack)
        write = _writer(output, input_file, as_json=as_json, multi=label_set.mode == "multi", stack=stack)
        scorer = open_scorer(model, progress=lambda line: typer.echo(line, err=True))
        classifier = Classifier(scorer, top_k=top_k)
        classifier.prepare([label_set])
        to_terminal = output is None and sys.stdout.isatty()
        advance = _progress_bar(input_file, stack) if input_file and lines and not to_terminal else None
        labelled = failed = 0
        for window in _results(_windows(items, lines), classifier, label_set):
            try:
                write(window)
            except BrokenPipeError:
                # Whoever reads our output has enough. Python would complain once more when it flushes it at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return
            labelled += len(window)
            failed += sum(isinstance(result, Failure) for _, result in window)
            if advance and lines:
                advance(lines.bytes_read)
    if not labelled:
        raise StreamClassifierError(f"{input_file or 'standard input'}: there is no text in it")
    if failed:
        raise StreamClassifierError(f"{failed} of {labelled} texts could not be labelled: see their {MEMBER}.error")


def _label_set(labels: str, *, multi: bool, threshold: float | None, template: str | None) -> LabelSet:
    if labels.endswith((".yaml", ".yml")):
        if multi or threshold is not None or template is not None:
            raise UsageError("--multi, --threshold and --template are for a list of labels: a file says them itself")
        return choose(load_label_sets(Path(labels)), None)
    names = [name.strip() for name in re.split(r"[,\uff0c]", labels)]
    if len(names) == 1 and not multi:
        raise UsageError("--labels: give two or more, with commas between, or the path of a YAML file")
    return LabelSet.adhoc(names, template=template, mode="multi" if multi else "single", threshold=threshold)


def _items(
    texts: list[str], file: Path | None, form: Format | None, text_field: str, text_column: str, stack: ExitStack
) -> tuple[Iterator[Item], Lines | None]:
    """The texts to label; and the stream they come from, if it is one."""
    if texts:
        if file:
            raise UsageError("give texts or --input, not both")
        for number, text in enumerate(texts, 1):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UsageError(f"text {number} is not UTF-8; convert it to UTF-8 first") from None
        return map(from_text, texts), None
    if file:
        try:
            lines = Lines(stack.enter_context(file.open("rb")), str(file))
        except OSError as error:
            raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
        form = form or _FORMATS.get(file.suffix.lower())
    elif sys.stdin.isatty():
        raise UsageError("there is nothing to label: give texts, --input FILE, or pipe lines in")
    else:
        lines = Lines(cast("BufferedIOBase", sys.stdin.buffer), "standard input")
    return read_items(lines, form, text_field=text_field, text_column=text_column), lines


def _windows(items: Iterator[Item], lines: Lines | None) -> Iterator[tuple[list[Item], bool]]:
    """What to classify together, and whether more can be had without waiting."""
    window: list[Item] = []
    try:
        for item in items:
            window.append(item)
            ready = lines is None or lines.ready
            if len(window) == WINDOW or not ready:
                yield window, ready
                window = []
    except StreamClassifierError:
        yield window, False  # what came before the bad line is labelled all the same
        raise
    yield window, False


def _results(
    windows: Iterable[tuple[list[Item], bool]], classifier: Classifier, label_set: LabelSet
) -> Iterator[list[Result]]:
    """Results in the order of the texts, while the threads work on what comes next.

    Before it waits for more texts it gives the results of all that came, so that a pipe that trickles is labelled as it
    does.
    """
    threads = available_cores()
    running: deque[tuple[list[Item], Future[Classified]]] = deque()
    with ThreadPoolExecutor(threads) as pool, ExitStack() as stack:
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # nothing is begun that nobody will read
        for window, more in windows:
            requests = [Request(item.text, label_set) for item in window if not is_blank(item.text)]
            running.append((window, pool.submit(classifier.classify, requests)))
            while running and (not more or len(running) > threads):
                done, future = running.popleft()
                results = iter(future.result().results)
                yield [(item, _BLANK if is_blank(item.text) else next(results)) for item in done]


def _writer(
    output: Path | None, source: Path | None, *, as_json: bool, multi: bool, stack: ExitStack
) -> Callable[[list[Result]], None]:
    if output is None and sys.stdout.isatty() and not as_json:
        return _TableWriter(Console(), multi=multi)
    if output is None:
        return _JsonWriter(sys.stdout.buffer)
    if source and output.exists() and output.samefile(source):
        raise UsageError(f"{output}: is the input, too; choose another name for --output")
    try:
        return _JsonWriter(stack.enter_context(output.open("wb")))
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror})") from None


class _JsonWriter:
    """Writes an object a line: what came in, with its classification as the last member."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._enricher = Enricher(InputSettings(topics=("none",)), OutputSettings(topic="none", field=MEMBER))

    def __call__(self, results: list[Result]) -> None:
        for item, result in results:
            if isinstance(result, Classification):
                value = result.encoded
            else:
                value = orjson.dumps({"label": None, "error": {"code": result.code, "message": result.message}})
            self._stream.write(self._enricher.enrich(item.event, value) + b"\n")
        self._stream.flush()


class _TableWriter:
    """Writes a table, row by row, for people."""

    def __init__(self, console: Console, *, multi: bool) -> None:
        self._console = console
        self._multi = multi
        self._begun = False

    def __call__(self, results: list[Result]) -> None:
        if not results:
            return
        table = Table(box=None, expand=True, show_header=not self._begun, pad_edge=False)
        table.add_column("label", style="bold cyan", width=24, no_wrap=True)
        table.add_column("score", justify="right", width=6)
        table.add_column("text", ratio=1, no_wrap=True)
        for item, result in results:
            text = Text("".join(character if character.isprintable() else " " for character in item.text))
            if isinstance(result, Failure):
                table.add_row(Text(result.code, style="red"), "", text)
                continue
            names = [name for name, _ in result.labels] if self._multi else [result.label or ""]
            table.add_row(Text(", ".join(names) or "-"), f"{result.score:.4f}", text)
        self._console.print(table)
        self._begun = True


def _progress_bar(file: Path, stack: ExitStack) -> Callable[[int], None] | None:
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    progress = stack.enter_context(Progress(console=console))
    task = progress.add_task(file.name, total=file.stat().st_size)
    return lambda done: progress.update(task, completed=done)
