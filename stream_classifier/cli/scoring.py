"""Scores of many texts, in their order, while the threads work on what comes next."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final

from rich.console import Console
from rich.progress import Progress

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.scorer import Scores
from stream_classifier.cli.labelled import Row
from stream_classifier.cores import available_cores

WINDOW: Final = 256
"""Texts that are scored together."""


def scored(
    classifier: Classifier,
    label_set: LabelSet,
    rows: Iterable[Row],
    advance: Callable[[int], None],
    *,
    temperature: float | None = None,
) -> Iterator[tuple[list[Row], Scores]]:
    """Rows with their scores, a window at a time.

    Args:
        classifier: The model.
        label_set: Whose labels are scored.
        rows: Any number; as many as the threads take are read ahead.
        advance: Is told how many rows have been scored since it was told last.
        temperature: Of the scores; None for the label set's.
    """
    threads = available_cores()
    waiting = iter(rows)
    running: deque[tuple[list[Row], Future[Scores]]] = deque()
    with ThreadPoolExecutor(threads) as pool, ExitStack() as stack:
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # nothing is begun that nobody will read
        while True:
            window = list(itertools.islice(waiting, WINDOW))
            if window:
                texts = [row.text for row in window]
                running.append((window, pool.submit(classifier.scores, label_set, texts, temperature=temperature)))
            while running and (not window or len(running) > threads):
                done, future = running.popleft()
                yield done, future.result()
                advance(len(done))
            if not window:
                return


@contextmanager
def progress_bar(name: str, rows: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal; gives what to tell it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(console=console) as progress:
        task = progress.add_task(name, total=rows)
        yield lambda more: progress.advance(task, more)
