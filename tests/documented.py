"""What the tests of the README and of the pages in docs/ share: marked blocks of code, and how they are run.

A block that is to be run stands below a comment: `test: run`, `test: background` (a command that goes on until it is
stopped) and others that a test asks for.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
PATIENCE = 90.0


def blocks(document: str, kind: str) -> list[str]:
    """The marked code blocks of a kind, in their order."""
    return re.findall(rf"<!-- test: {kind} -->\n```\w+\n(.*?)```", document, re.DOTALL)


def environment(**settings: str) -> dict[str, str]:
    """That of a shell in which .venv is activated, with settings over those of the file that is used."""
    own = {f"STREAM_CLASSIFIER_{name}": value for name, value in settings.items()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | own | {"PATH": path, "PYTHONUNBUFFERED": "1"}


class Background:
    """A command that goes on until it is stopped, as in a terminal of its own."""

    def __init__(self, command: str, its_environment: dict[str, str], directory: Path = ROOT) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            ["/usr/bin/env", "bash", "-c", f"exec {command}"],
            cwd=directory,
            env=its_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    def await_line(self, part: str) -> None:
        """Wait until it has written a line with this in it."""

        def has_come() -> bool:
            return any(part in line for line in self.lines)

        with self._news:
            assert self._news.wait_for(has_come, PATIENCE), f"{part!r} did not come; there is: {self.lines}"

    def stop(self) -> None:
        """Ctrl-C; it has to end well."""
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout
        self._process.stdout.close()
        assert status == 0, self.lines

    def kill(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.wait()


def run(command: str, its_environment: dict[str, str], directory: Path = ROOT) -> str:
    """Run a block as somebody would who pastes it into a shell."""
    script = f"set -e -o pipefail\n{command}"
    done = subprocess.run(
        ["/usr/bin/env", "bash", "-c", script],
        cwd=directory,
        env=its_environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
