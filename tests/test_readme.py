"""The README is true: its commands run, its links lead somewhere, and what it names is there.

A block that is to be run stands below a comment: `test: run`, `test: background` (a command that goes on until it is
stopped) or `test: python`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

import orjson
import pytest

from stream_classifier import cli
from stream_classifier.classify.classification import Classification
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.events.refusal import Code
from stream_classifier.metrics import Metrics

if TYPE_CHECKING:
    from broker import MakeTopic, NameTopic

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE = 90.0


def blocks(kind: str) -> list[str]:
    """The marked code blocks of a kind, in their order."""
    return re.findall(rf"<!-- test: {kind} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)


def environment(**settings: str) -> dict[str, str]:
    """That of a shell in which .venv is activated, with settings over those of config/worker.yaml."""
    own = {f"STREAM_CLASSIFIER_{name}": value for name, value in settings.items()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | own | {"PATH": path, "PYTHONUNBUFFERED": "1"}


# Running it -----------------------------------------------------------------------------------------------------------


class Background:
    """A command that goes on until it is stopped, as in a terminal of its own."""

    def __init__(self, command: str, its_environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            ["/usr/bin/env", "bash", "-c", f"exec {command}"],
            cwd=ROOT,
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


def run(command: str, its_environment: dict[str, str]) -> str:
    """Run a block as somebody would who pastes it into a shell."""
    script = f"set -e -o pipefail\n{command}"
    done = subprocess.run(
        ["/usr/bin/env", "bash", "-c", script],
        cwd=ROOT,
        env=its_environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def settings(bootstrap_servers: str, make_topic: MakeTopic, name_topic: NameTopic) -> dict[str, str]:
    """The environment that puts the tests' broker and topics of this test's own over the README's settings."""
    return environment(
        KAFKA__BOOTSTRAP_SERVERS=bootstrap_servers,
        KAFKA__GROUP_ID=name_topic("group"),
        INPUT__TOPICS=make_topic("tickets"),
        OUTPUT__TOPIC=make_topic("labelled"),
        DEAD_LETTER__TOPIC=make_topic("dead-letter"),
        OBSERVABILITY__PORT="0",
    )


def test_the_commands_label_a_stream(settings: dict[str, str]) -> None:
    """Given the README's commands, when they are run in their order, then its three events come out as it says."""
    create_and_check, publish, dead_letters, classify = blocks("run")
    worker_command, watch_command = blocks("background")
    created = run(create_and_check, settings)
    assert "exists, 1 partitions" in created
    assert "ok       kafka" in created
    with ExitStack() as stack:
        worker = Background(worker_command, settings)
        stack.callback(worker.kill)
        watching = Background(watch_command, settings)
        stack.callback(watching.kill)
        watching.await_line("Ctrl-C stops")
        run(publish, settings)
        watching.await_line("where is my parcel")
        watching.await_line("我要退款")
        refused = run(dead_letters, settings)
        assert refused.startswith("not_json ")
        watching.stop()
        worker.stop()
    labels = {line.split()[2]: line.split()[1] for line in watching.lines if "我要退款" in line}
    assert labels == {"我要退款": "refund"}
    shown = run(classify, settings).splitlines()
    assert ['"label":"delivery"' in shown[0], '"label":"refund"' in shown[1]] == [True, True]


def test_the_python_example_labels_texts() -> None:
    (example,) = blocks("python")
    shown = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=True, timeout=PATIENCE, cwd=ROOT
    ).stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["delivery", "refund"]


def test_the_example_of_a_label_set_can_be_used(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "labels.yaml").write_text(example, encoding="utf-8")
    label_set = choose(load_label_sets(tmp_path), None)
    assert label_set.identity == "support@3"
    assert label_set.names == ("delivery", "refund", "praise")


def test_the_example_of_a_labelled_event_has_what_such_events_have() -> None:
    example = orjson.loads(TEXT[TEXT.index('    {"id":"t-1042"') :].partition("\n\n")[0])
    real = Classification("delivery", 0.7, (("delivery", 0.7),), "support@1", "a-model@00000000", truncated=False)
    assert list(example["classification"]) == list(orjson.loads(real.encoded))


# Reading it -----------------------------------------------------------------------------------------------------------


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 10
    for link in links:
        assert "://" in link or (ROOT / link).is_file(), link


def test_the_picture_fetches_nothing_and_is_small() -> None:
    picture = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8")
    assert len(picture.encode()) < 100_000
    assert not re.search(r"url\((?!#)|@import|@font-face|href=|<script|<image", picture)


def test_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", TEXT, re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_of_the_table_is_there_and_the_other_way_round() -> None:
    table = TEXT.partition("### Commands")[2].partition("##")[0]
    named = {name.split()[0] for name in re.findall(r"^\| `([a-z -]+)`", table, re.MULTILINE)}
    assert named == set(cli._COMMANDS)


def test_every_reason_code_is_explained_and_no_other() -> None:
    table = TEXT.partition("| `classifier-error-code` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(get_args(Code))


def test_metrics_that_are_named_are_there() -> None:
    families = {family.name: family.type for family in Metrics().registry.collect()}
    named = re.findall(r"`(stream_classifier_\w+)`", TEXT)
    assert len(named) > 5
    for name in named:
        total = name.removesuffix("_total")
        assert families[total] == "counter" if name.endswith("_total") else name in families, name


def test_settings_that_are_named_are_there() -> None:
    table = TEXT.partition("<!-- settings:begin")[2].partition("<!-- settings:end")[0]
    known = set(re.findall(r"^\| `([a-z_.]+)` \|", table, re.MULTILINE))
    sections = "|".join({name.partition(".")[0] for name in known})
    named = set(re.findall(rf"`((?:{sections})\.[a-z_]+)", TEXT.replace(table, "")))
    assert len(named) > 10
    assert named <= known
