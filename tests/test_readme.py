"""The README is true: its commands run, its links lead somewhere, and what it names is there.

What runs its blocks of code is in `documented.py`; that the names
of metrics, settings and make targets are right is looked at in `test_docs.py`, together with the pages in docs/.
"""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import orjson
import pytest
from documented import PATIENCE, ROOT, Background, blocks, environment, run

from stream_classifier import cli
from stream_classifier.classify.classification import Classification
from stream_classifier.classify.labels import choose, load_label_sets

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic, NameTopic

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


# Running it -----------------------------------------------------------------------------------------------------------


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
    create_and_check, publish, dead_letters, classify = blocks(TEXT, "run")
    worker_command, watch_command = blocks(TEXT, "background")
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
    (example,) = blocks(TEXT, "python")
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


def test_every_command_of_the_table_is_there_and_the_other_way_round() -> None:
    table = TEXT.partition("### Commands")[2].partition("##")[0]
    named = {name.split()[0] for name in re.findall(r"^\| `([a-z -]+)`", table, re.MULTILINE)}
    assert named == set(cli._COMMANDS)
