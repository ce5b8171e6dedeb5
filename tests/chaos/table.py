"""The table at the end: what each fault did."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What a test has seen.

    Attributes:
        fault: What was done.
        delivery: The worker's mode.
        protocol: Of its group.
        rounds: How often it was done.
        inputs: Events that were published meanwhile.
        lost: Of these, events without a result.
        twice: Results too many.
        stall: Longest time in seconds without a new result while an event waited.
        more: Whatever else is to be told.
    """

    fault: str
    delivery: str
    protocol: str
    rounds: int
    inputs: int
    lost: int
    twice: int
    stall: float
    more: str = ""


class Table:
    """All rows of a run."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Add one."""
        self._rows.append(row)

    def lines(self) -> list[str]:
        """The table as text, sorted; nothing when there are no rows."""
        if not self._rows:
            return []
        cells: list[tuple[str, ...]] = [
            ("fault", "delivery", "protocol", "rounds", "inputs", "lost", "twice", "longest stall", "")
        ]
        cells += [(*map(str, row[:7]), f"{row.stall:.1f} s", row.more) for row in sorted(self._rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
