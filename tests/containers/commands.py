"""Other programs' commands: what they print, or what was wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
SCRATCH = ROOT / "build" / "containers"

_SHOWN = 8000  # characters of what a command printed before it failed


class CheckError(Exception):
    """What was found wrong, or what is missing, in a line or more for whoever reads CI's log."""


def output(command: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """Run a command in the repository and give what it printed, without the spaces around it.

    Raises:
        CheckError: It failed.
    """
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        told = f"{done.stdout}{done.stderr}".strip()[-_SHOWN:]
        raise CheckError(f"`{' '.join(command)}` ended with {done.returncode}:\n{told}")
    return done.stdout.strip()


def attempt(command: Sequence[str], environment: Mapping[str, str] = os.environ) -> str | None:
    """Run a command that may fail: give what it printed, or None when it failed or there is no such program."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
