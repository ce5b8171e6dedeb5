"""Where the embedded Kafka keeps things, and the locks that let several processes share them."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import platformdirs

from stream_classifier.errors import UsageError
from stream_classifier.kafka.embedded.unavailable import unavailable

if sys.platform != "win32":  # there the embedded Kafka refuses to start, with a reason, before any lock is taken
    import fcntl


def cache_directory() -> Path:
    """Give the directory of what is fetched or made once, created if need be; `XDG_CACHE_HOME` is respected.

    Raises:
        EmbeddedKafkaError: it cannot be written.
    """
    path = platformdirs.user_cache_path("stream-classifier") / "kafka"
    remedy = "name one that can be written in XDG_CACHE_HOME"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unavailable(f"The cache directory {path} cannot be made ({error.strerror})", remedy) from error
    if not os.access(path, os.W_OK):
        raise unavailable(f"The cache directory {path} cannot be written", remedy)
    return path


def try_lock(path: Path) -> BinaryIO | None:
    """Lock a file for as long as the returned handle is open, or give None if another process holds it.

    The kernel drops the lock when its holder dies, however that happens: a lock that can be had has no living owner.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file, waiting for it as long as it takes; `on_wait` is called once if it has to wait."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait:
                on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class HeldDirectory:
    """A cluster's directory, which no other process uses until it is released."""

    path: Path
    kept: bool
    _lock: BinaryIO

    def release(self) -> None:
        """Let others have it; a temporary one is removed."""
        if not self.kept:
            with locked(_sweep_lock(self.path.parent)):
                shutil.rmtree(self.path, ignore_errors=True)  # what is left is swept at the next start
        self._lock.close()


def hold_temporary(cache: Path) -> HeldDirectory:
    """Make a directory for one run, after removing those whose owners were killed before they could do so."""
    runs = cache / "run"
    runs.mkdir(exist_ok=True)
    with locked(_sweep_lock(runs)):
        for left in runs.iterdir():
            owner_is_gone = try_lock(left / "lock")
            if owner_is_gone:
                shutil.rmtree(left, ignore_errors=True)
                owner_is_gone.close()
        path = Path(tempfile.mkdtemp(dir=runs))
        lock = try_lock(path / "lock")
    if lock is None:
        raise AssertionError(f"{path} was made here, nobody else can hold it")
    return HeldDirectory(path, kept=False, _lock=lock)


def hold_kept(path: Path, marker: str) -> HeldDirectory:
    """Take the user's own directory, which must be empty or hold a cluster already.

    Args:
        path: the directory; made if it does not exist.
        marker: the name of the file by which a cluster's directory is known.

    Raises:
        UsageError: it holds something else, is in use, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / marker).exists() and any(entry.name != "lock" for entry in path.iterdir()):
            raise UsageError(f"{path} holds files that are not an embedded Kafka's: choose a new or empty directory.")
        lock = try_lock(path / "lock")
    except OSError as error:
        raise UsageError(f"{path} cannot hold Kafka's data ({error.strerror}): choose another directory.") from error
    if lock is None:
        raise UsageError(f"{path} is in use by another broker: stop that one or choose another directory.")
    return HeldDirectory(path.resolve(), kept=True, _lock=lock)


def _sweep_lock(runs: Path) -> Path:
    return runs.parent / "run.lock"
