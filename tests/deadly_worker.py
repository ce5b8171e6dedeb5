"""A `worker` command on which one word is deadly: what a crash in native code does, at a text of the test's choice.

python tests/deadly_worker.py worker --config FILE

The environment variable DEADLY says how: `kill` ends the process at once, `hang` never gives the window back, and
`raise` raises what nobody has foreseen.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from stream_classifier.classify.classifier import Classified, Classifier, Request
from stream_classifier.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD = "kamikaze"

_classify = Classifier.classify


def deadly(self: Classifier, requests: Sequence[Request]) -> Classified:
    """Label texts, unless one of them is deadly."""
    if any(WORD in request.text for request in requests):
        match os.environ["DEADLY"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(600)
            case _:
                raise ZeroDivisionError
    return _classify(self, requests)


if __name__ == "__main__":
    Classifier.classify = deadly  # type: ignore[method-assign]
    main()
