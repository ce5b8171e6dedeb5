"""The JVM's ahead-of-time cache: classes loaded and linked already, which more than halves Kafka's start.

It is made on this machine from what a real run loaded (JEP 483, JEP 514). To train it before the first start would
delay a newcomer by 6 s (measured on 2 cores: 7.5 s of training, 1.4 s gained), so the first broker that is run and
stopped in an orderly way is the training: 0.2 s at its start, 2.1 s at its end, and 2.3 s to make the cache.
"""

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stream_classifier.kafka.embedded.directories import try_lock
from stream_classifier.kafka.embedded.launch import launch

_SECONDS = 60


@dataclass(frozen=True)
class AotCache:
    """One cache file; an empty one says that it could not be made here, so that nobody tries at every start."""

    path: Path

    @classmethod
    def keyed(cls, directory: Path, *holds_for: str) -> "AotCache":
        """Name the cache after everything that it depends on: the JVM rejects one that was made otherwise."""
        return cls(directory / f"{hashlib.sha256(repr(holds_for).encode()).hexdigest()[:16]}.aot")

    @property
    def options(self) -> list[str]:
        """The JVM's options that use the cache; none as long as there is none."""
        return [f"-XX:AOTCache={self.path}"] if self.path.exists() and self.path.stat().st_size > 0 else []

    def discard(self) -> None:
        """Remove a cache that the JVM does not take."""
        self.path.unlink(missing_ok=True)

    def train(self) -> "Training | None":
        """Begin a training run, or give None if the cache is there or another process trains."""
        if self.path.exists():
            return None
        lock = try_lock(self.path.with_suffix(".lock"))
        if lock is None:
            return None
        training = Training(self, lock)
        training.clear()  # of what a training that was killed has left
        return training


@dataclass(frozen=True)
class Training:
    """A broker's run that is recorded, from its start to the cache that is made of it."""

    cache: AotCache
    _lock: BinaryIO

    @property
    def _recording(self) -> Path:
        return self.cache.path.with_suffix(".recording")

    @property
    def _fresh(self) -> Path:
        return self.cache.path.with_suffix(".fresh")

    @property
    def _log(self) -> Path:
        return self.cache.path.with_suffix(".log")

    @property
    def options(self) -> list[str]:
        """The JVM's options that write down what it loads, when it ends."""
        return ["-XX:AOTMode=record", f"-XX:AOTConfiguration={self._recording}"]

    def finish(self, command: Callable[[list[str]], list[str]]) -> bool:
        """Make the cache of what was recorded.

        Args:
            command: gives the command line of the same Java and class path with other options.

        Returns:
            Whether there is a cache now. If not, Kafka starts without one, more slowly.
        """
        if not self._recording.exists():  # the broker was killed; the next one may end in order
            return False
        options = ["-XX:AOTMode=create", f"-XX:AOTConfiguration={self._recording}", f"-XX:AOTCache={self._fresh}"]
        process = launch(command(options), directory=self.cache.path.parent, log=self._log)
        try:
            made = process.wait(_SECONDS) == 0 and self._fresh.exists()
        except subprocess.TimeoutExpired:
            made = False
        finally:
            process.kill()
            process.wait()
        for old in self.cache.path.parent.glob("*.aot"):  # 70 MB each, of a Java that was replaced
            old.unlink()
        if made:
            self._fresh.replace(self.cache.path)
        else:
            self.cache.path.touch()
        return made

    def clear(self) -> None:
        """Remove all that a training makes on its way to the cache."""
        for path in (self._recording, self._fresh, self._log):
            path.unlink(missing_ok=True)

    def end(self) -> None:
        """Leave nothing behind but the cache, and let others train if there is none."""
        self.clear()
        self._lock.close()
