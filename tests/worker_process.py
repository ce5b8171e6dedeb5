"""A `worker` command in a process of its own: watched through its log and its pages, and sent whatever signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PATIENCE = 60.0


class Process:
    """A `worker` command of its own.

    Args:
        config: Its settings file.
        log: Where its log goes.
        environment: Settings over the file, as environment variables.
        command: What Python runs.
        name: Which command it is.
    """

    def __init__(
        self,
        config: Path,
        log: Path,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = ("-m", "stream_classifier"),
        name: str = "worker",
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_CLASSIFIER_")}
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, *command, name, "--config", str(config)],
                stdout=out,
                stderr=out,
                env=clean | dict(environment or {}),
            )

    def lines(self) -> list[dict[str, Any]]:
        """Its own log; the last words of C libraries are left out."""
        complete = self.log.read_bytes().rpartition(b"\n")[0].splitlines()
        return [orjson.loads(line) for line in complete if line.startswith(b"{")]

    def logged(self, event: str) -> int:
        """How many lines of its log tell of this."""
        return sum(line["event"] == event for line in self.lines())

    def page(self, name: str, patience: float = 10) -> str:
        address = next(line["metrics"] for line in self.lines() if "metrics" in line)
        with urllib.request.urlopen(address.replace("/metrics", name), timeout=patience) as answer:  # noqa: S310 - http
            return str(answer.read().decode())

    def status(self, name: str) -> int | None:
        """The HTTP status of a page; None when nobody answers."""
        try:
            self.page(name, patience=2)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, StopIteration):
            return None
        return 200

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.popen.poll() is None, f"the worker ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}; {self.log.read_text()}"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        return self.status("/readyz") == 200

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; 0 when there is none."""
        found = re.findall(rf"^stream_classifier_{name}(?:{{.*}})? (.*)$", self.page("/metrics"), re.MULTILINE)
        return sum(map(float, found))

    def labelled(self) -> float:
        return self.metric("events_labelled_total")

    def is_running(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """Kill -9."""
        self.popen.kill()
        self.popen.wait(PATIENCE)

    def tell_to_stop(self) -> None:
        self.popen.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.popen.send_signal(signal.SIGCONT)
