"""How many machine instructions one event costs on the paths that are ours: a slow-down shows without a clock.

    make bench-instructions
    python benchmarks/instructions.py [--write]

Counted by valgrind (callgrind), which runs a processor of its own: the figure is the same on a busy machine, and nearly
the same on another one with the same Python. Each path is run in a process of its own; what it counts beyond one that
only makes the events is what they cost. The figures are held against `instructions.json`, which `--write` writes anew:
whoever makes a path dearer says so in the same change.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from stream_classifier.events.form import PlainForm
from stream_classifier.events.outgoing import TopicLimits, Writer
from stream_classifier.events.record import Record
from stream_classifier.ledger import Ledger, Partition
from stream_classifier.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUDGET = Path(__file__).with_suffix(".json")
SLACK = 0.1
"""By so much a path may cost more than its budget: other builds of Python and of the libraries differ by less."""
EVENTS = 1000
WINDOW = 32
PARTITIONS = 4
NOW = 1_700_000_000_000
SETTINGS = {
    "kafka": {"bootstrap_servers": "unused", "group_id": "unused"},
    "input": {"topics": ["events"]},
    "output": {"topic": "labelled"},
    "dead_letter": {"topic": "dead-letter"},
    "labels": {"path": "unused"},
}


def nothing(records: Sequence[Record]) -> None:
    """What all have in common: Python, the imports, the events."""
    del records


def decode(records: Sequence[Record]) -> None:
    """The text out of the event."""
    form = PlainForm(Settings.model_validate(SETTINGS))
    for record in records:
        form.decode(record)


def enrich(records: Sequence[Record]) -> None:
    """The record of a labelled event."""
    limits = {"labelled": TopicLimits(), "dead-letter": TopicLimits()}
    writer = Writer(Settings.model_validate(SETTINGS), limits, model="00000000", version="0")
    result = b'{"label":"delivery","score":0.83,"labels":[{"label":"delivery","score":0.83}],"label_set":"adhoc"}'
    for record in records:
        writer.labelled(record, result, "adhoc", NOW)


def ledger(records: Sequence[Record]) -> None:
    """An event's way through the ledger, in windows."""
    kept: Ledger[Record, int] = Ledger()
    for number in range(PARTITIONS):
        kept.assign(Partition("events", number))
    lanes = list(kept.lanes.values())
    for begin in range(0, len(records), WINDOW):
        window = records[begin : begin + WINDOW]
        entries = [kept.admit(lanes[record.partition], record.offset, record, 150) for record in window]
        kept.settle_all(entries, range(len(entries)))
        kept.acknowledge(kept.release())
        kept.committable()


PATHS: dict[str, Callable[[Sequence[Record]], None]] = {
    "nothing": nothing,
    "decode": decode,
    "enrich": enrich,
    "ledger": ledger,
}


def make_records() -> list[Record]:
    """Events of about 100 bytes, as they come from the client."""
    value = b'{"id":"t-%07d","text":"Where is my parcel? It was promised for Monday, order %09d","channel":"chat"}'
    return [
        Record("events", number % PARTITIONS, number, b"%d" % (number % 500), value % (number, number), [], NOW)
        for number in range(EVENTS)
    ]


def count_instructions(valgrind: str, path: str) -> int:
    """Instructions of a whole process that takes the events along a path."""
    ran = subprocess.run(  # noqa: S603 - this file
        [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__, "--path", path],
        # The order of sets and dicts is part of what is counted, and so is which memory is reused.
        env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode or (found := re.search(r"Collected : (\d+)", ran.stderr)) is None:
        raise SystemExit(f"valgrind ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return int(found[1])


def measure() -> dict[str, int]:
    """Instructions an event of each path."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise SystemExit("valgrind is not installed; Debian's package `valgrind` has it")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        common, *counted = pool.map(partial(count_instructions, valgrind), PATHS)
    return {
        path: round((instructions - common) / EVENTS) for path, instructions in zip([*PATHS][1:], counted, strict=True)
    }


def main() -> int:
    """Count, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        PATHS[options.path](make_records())
        return 0
    found = measure()
    if options.write:
        BUDGET.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    budget = orjson.loads(BUDGET.read_bytes())
    print("path      instructions an event   budget")
    dearer = [path for path in found if found[path] > budget[path] * (1 + SLACK)]
    for path, instructions in found.items():
        print(f"{path:<10}{instructions:>21,}{budget[path]:>9,}{'   DEARER' if path in dearer else ''}")
    return 1 if dearer else 0


if __name__ == "__main__":
    sys.exit(main())
