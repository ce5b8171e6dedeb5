"""Apache Kafka's jars: fetched from Maven Central once, and checked against pinned SHA-256 sums at every start.

`jars.json` names each jar by its Maven coordinate; nothing is resolved at run time, so that what runs is what was
tested. `python -m stream_classifier.kafka.embedded.pin` writes it anew when Kafka's version changes.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from stream_classifier.kafka.embedded.directories import locked
from stream_classifier.kafka.embedded.unavailable import require_extra, unavailable

Progress = Callable[[str], None]
Fetch = Callable[[str, Path], Path]
"""Takes a Maven coordinate and an empty directory, and gives the path of the jar that it put below it."""

_TIMEOUT_SECONDS = 30
_SECONDS_BETWEEN_LINES = 5
# The JVM's AOT cache holds for jars of the same times only; equal ones let it outlive a jar that was fetched again.
_MODIFIED = 1_700_000_000


class Pins(BaseModel):
    """What `jars.json` holds: for each jar's Maven coordinate (`group:artifact:version`) its SHA-256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka: str
    broker: dict[str, str]
    tools: dict[str, str]


def read_pins() -> Pins:
    """Read the pins that are part of this package."""
    return Pins.model_validate_json(files("stream_classifier.kafka.embedded").joinpath("jars.json").read_bytes())


def fetch_from_maven_central(coordinate: str, directory: Path) -> Path:
    """Download one jar with jgo; its own check is a SHA-1 that only warns, so the caller must compare the SHA-256.

    Raises:
        EmbeddedKafkaError: jgo is not installed, or Maven Central cannot be reached.
    """
    maven = require_extra("jgo.maven")
    group, artifact, version = coordinate.split(":")
    context = maven.MavenContext(repo_cache=directory, timeout=_TIMEOUT_SECONDS)
    try:
        with _silenced("jgo"):
            return Path(context.project(group, artifact).at_version(version).artifact().resolve())
    except (OSError, RuntimeError) as error:  # those of requests are OSErrors
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise unavailable(
            f"Apache Kafka could not be fetched from Maven Central ({artifact}: {reason})",
            "check the network and try again",
        ) from error


def provide(
    pins: Mapping[str, str],
    directory: Path,
    *,
    announce: str,
    progress: Progress,
    fetch: Fetch = fetch_from_maven_central,
) -> list[Path]:
    """Give the pinned jars' paths, in the order of the pins; those that are missing or damaged are fetched.

    Several processes may call this at once: one fetches, the others wait.

    Args:
        pins: coordinates and SHA-256 sums.
        directory: where the jars are kept; made if it does not exist.
        announce: the line that is said before anything is fetched.
        progress: takes one line at a time.
        fetch: where jars come from.

    Raises:
        EmbeddedKafkaError: a jar cannot be fetched, or what comes is twice not the pinned one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / "lock", lambda: progress("Waiting for another process that fetches Apache Kafka ...")):
        paths = {coordinate: directory / _file_name(coordinate) for coordinate in pins}
        wanted = [coordinate for coordinate, path in paths.items() if not _is_pinned(path, pins[coordinate])]
        damaged = [paths[coordinate].name for coordinate in wanted if paths[coordinate].exists()]
        if damaged:
            progress(f"Fetching again what was damaged: {', '.join(damaged)} ...")
        elif wanted:
            progress(announce)
        said = time.monotonic()
        for done, coordinate in enumerate(wanted):
            if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                progress(f"  {done} of {len(wanted)} files")
                said = time.monotonic()
            _fetch_pinned(coordinate, pins[coordinate], paths[coordinate], fetch)
    return list(paths.values())


def _fetch_pinned(coordinate: str, sha256: str, path: Path, fetch: Fetch) -> None:
    for _ in range(2):  # the second time for a download that was damaged on its way
        # Beside its place, so that the rename is atomic; emptied first, since a process may have died here.
        fresh = path.parent / "fetching"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        fetched = fetch(coordinate, fresh)
        as_pinned = _is_pinned(fetched, sha256)
        if as_pinned:
            os.utime(fetched, (_MODIFIED, _MODIFIED))
            fetched.replace(path)
        shutil.rmtree(fresh)
        if as_pinned:
            return
    raise unavailable(
        f"Maven Central gave another {path.name} than the one pinned here (its SHA-256 differs)",
        "look for a proxy that changes downloads",
    )


def _is_pinned(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _file_name(coordinate: str) -> str:
    _, artifact, version = coordinate.split(":")
    return f"{artifact}-{version}.jar"


@contextmanager
def _silenced(logger_name: str) -> Iterator[None]:
    """Keep a library's warnings off the terminal of someone who only asked for a broker."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
