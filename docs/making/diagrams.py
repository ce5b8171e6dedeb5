"""The drawings of docs/architecture.md.

    python docs/making/diagrams.py     writes them into docs/diagrams

The rooms are those of the import-linter contract in pyproject.toml, which `make lint` holds the code to.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from canvas import COLD, FAINT, INK, PLAIN, STRONG, WARM, Canvas

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "diagrams"
_CONTRACT = "Dependencies point one way"
_PACKAGE = "stream_classifier."


def layers() -> list[list[str]]:
    """The rooms, from the one that imports most to the one that imports nothing; those of a layer know not each other.

    Raises:
        StopIteration: pyproject.toml has no such contract.
    """
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    contract = next(each for each in contracts if each["name"] == _CONTRACT)
    return [[room.strip().removeprefix(_PACKAGE) for room in layer.split("|")] for layer in contract["layers"]]


def rooms() -> str:
    """Each layer as a row of boxes; imports go downwards only."""
    per_row, wide, high, left = 5, 148, 30, 60
    rows = [layer[begin : begin + per_row] for layer in layers() for begin in range(0, len(layer), per_row)]
    begins = [bool(number % per_row == 0) for layer in layers() for number in range(0, len(layer), per_row)]
    height = 30 + sum(high + (14 if new else 4) for new in begins)
    canvas = Canvas(left + per_row * (wide + 8) + 10, height, "The rooms of the code; imports go downwards only")
    y = 2.0
    for row, new in zip(rows, begins, strict=True):
        y += 10 if new else 0
        for column, room in enumerate(row):
            fill = STRONG if room in {"worker", "ledger"} else COLD if room in {"kafka", "model", "classify"} else PLAIN
            canvas.box(left + column * (wide + 8), y, wide, high, room, fill=fill)
        y += high + 4
    canvas.arrow((30, 36), (30, y - 10))
    canvas.words(10, 28, "imports", size=11)
    return canvas.svg()


def event() -> str:
    """One event's way, from topic to topic."""
    canvas = Canvas(860, 330, "One event's way from the input topic to the output topic")
    canvas.words(20, 26, "the thread that owns Kafka", size=12, ink=INK)
    steps = [
        ("poll", "kafka/source.py"),
        ("admit", "ledger.py"),
        ("decode", "events/decode.py"),
        ("window", "windows.py"),
    ]
    for number, lines in enumerate(steps):
        x = 150 + number * 150
        canvas.box(x, 42, 125, 46, *lines)
        if number:
            canvas.arrow((x - 25, 65), (x, 65))
    canvas.box(16, 42, 105, 46, "input topic", fill=WARM)
    canvas.arrow((121, 65), (150, 65))
    canvas.box(600, 130, 244, 62, "classify, in inference threads", "tokens, batches by length, ONNX", fill=COLD)
    canvas.arrow((662, 88), (662, 130))
    back = [
        ("settle", "ledger.py"),
        ("release in order", "ledger.py"),
        ("produce", "kafka/sink.py"),
    ]
    for number, lines in enumerate(back):
        x = 600 - number * 150
        canvas.box(x, 234, 125, 46, *lines)
        if number:
            canvas.arrow((x + 150, 257), (x + 125, 257))
    canvas.arrow((662, 192), (662, 234))
    canvas.arrow((512, 88), (512, 210), (620, 210), (620, 234), dashed=True)
    canvas.words(430, 204, "cannot be read", size=11)
    canvas.box(150, 216, 116, 34, "output topic", fill=WARM)
    canvas.box(150, 264, 116, 34, "dead letters", fill=WARM)
    canvas.arrow((300, 250), (266, 236))
    canvas.arrow((300, 264), (266, 278))
    canvas.box(8, 130, 122, 62, "the group", "committed offsets", fill=WARM)
    canvas.box(190, 138, 170, 46, "acknowledged", "then commit", fill=STRONG)
    canvas.arrow((208, 216), (240, 184))
    canvas.arrow((190, 161), (130, 161))
    canvas.words(
        20,
        318,
        "Offsets follow: nothing is committed before the record of every event before it is acknowledged.",
        size=11,
    )
    return canvas.svg()


def ledger() -> str:
    """A partition's lane at one moment."""
    canvas = Canvas(860, 236, "A lane of the ledger: which offsets are done, and how far may be committed")
    states = [
        ("40", "acknowledged", STRONG),
        ("41", "acknowledged", STRONG),
        ("42", "released", COLD),
        ("44", "acknowledged", STRONG),
        ("45", "settled", COLD),
        ("46", "with the model", WARM),
        ("47", "settled", COLD),
        ("48", "in a window", PLAIN),
    ]
    for number, (offset, state, fill) in enumerate(states):
        canvas.box(20 + number * 103, 60, 96, 50, offset, state, fill=fill)
    canvas.words(
        20, 32, "tickets, partition 3, in the order of admission (43 was a transaction marker: nobody's event)", ink=INK
    )
    canvas.arrow((224, 150), (224, 116))
    canvas.words(224, 168, "low-water mark: 42 may be committed", anchor="middle", ink=INK)
    canvas.words(224, 186, "44 is done as well, and does not count before 42 is", anchor="middle", size=11)
    canvas.arrow((533, 150), (533, 116))
    canvas.words(560, 168, "45 may be produced now; 47 waits for 46", anchor="middle", ink=INK)
    canvas.words(560, 186, "results leave in the order of the events", anchor="middle", size=11)
    canvas.words(
        20,
        220,
        "When the partition is revoked the lane is dropped whole; what comes back for it later changes nothing.",
        size=11,
    )
    return canvas.svg()


def transaction() -> str:
    """What is done in one transaction, and when it can be seen."""
    canvas = Canvas(860, 372, "A transaction: results, dead letters and offsets are committed together")
    columns = {"worker": 90, "transaction coordinator": 310, "output and dead letters": 540, "group coordinator": 760}
    for name, x in columns.items():
        canvas.box(x - 80, 16, 160, 30, name, fill=STRONG if name == "worker" else WARM)
        canvas.arrow((x, 46), (x, 330), dashed=True, head=False)
    worker, coordinator, topics, group = columns.values()
    calls = [
        (coordinator, "which partitions will be written"),
        (topics, "results and dead letters"),
        (group, "every 100 ms, or when much is in it: the offsets, which the group takes from its members only"),
        (coordinator, "commit"),
    ]
    for number, (target, words) in enumerate(calls):
        y = 80 + number * 46
        canvas.arrow((worker, y), (target, y))
        canvas.words(worker + 10, y - 6, words, size=11, ink=INK)
    canvas.arrow((coordinator, 250), (topics, 250))
    canvas.arrow((topics, 250), (group, 250))
    canvas.words(
        coordinator + 10, 244, "markers: from now on, readers of committed records see all of it", size=11, ink=INK
    )
    canvas.arrow((coordinator, 290), (worker, 290))
    canvas.words(worker + 10, 284, "done: acknowledged, all of it", size=11, ink=INK)
    canvas.words(
        20,
        352,
        "If any of it fails, all of it is aborted and produced again; the model is not run again.",
        size=11,
        ink=FAINT,
    )
    return canvas.svg()


DRAWINGS = {"rooms": rooms, "event": event, "ledger": ledger, "transaction": transaction}


def main() -> None:
    """Write all of them."""
    TARGET.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (TARGET / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
