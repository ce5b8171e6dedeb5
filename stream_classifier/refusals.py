"""Notices when a whole topic is being put aside instead of a few bad events."""

from __future__ import annotations

from collections import deque

from stream_classifier.errors import TooManyRefusedError

EVENTS_LOOKED_AT = 1000


class RecentRefusals:
    """The share of refused events among the last 1,000.

    Args:
        stop_above: The share that is one too many. 1 is never passed.
    """

    def __init__(self, stop_above: float) -> None:
        self._most = stop_above * EVENTS_LOOKED_AT
        self._seen = 0
        self._refused: deque[tuple[int, str]] = deque()

    def accepted(self) -> None:
        """One more event was not refused."""
        self._seen += 1

    def refused(self, code: str) -> None:
        """One more event was.

        Raises:
            TooManyRefusedError: This one makes it too many.
        """
        self._seen += 1
        self._refused.append((self._seen, code))
        while self._refused[0][0] <= self._seen - EVENTS_LOOKED_AT:
            self._refused.popleft()
        if len(self._refused) > self._most:
            codes = [code for _, code in self._refused]
            commonest = max(sorted(set(codes)), key=codes.count)
            raise TooManyRefusedError(
                f"{len(codes)} of the last {min(self._seen, EVENTS_LOOKED_AT)} events were refused, most of them as "
                f"{commonest}: look at input.text_field, input.format and what the topic holds, or raise "
                "dead_letter.stop_above"
            )
