"""Records at a steady rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_Item = TypeVar("_Item")


def paced(items: Iterable[_Item], rate: float) -> Iterator[_Item]:
    """Gives items no faster than so many a second; one that was late is made up for.

    Args:
        items: What is given on, in its order; may be endless.
        rate: Items a second; 0 for as fast as they are taken.
    """
    begin = time.monotonic()
    for number, item in enumerate(items):
        if rate:
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        yield item
