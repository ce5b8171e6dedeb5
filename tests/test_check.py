"""`check`: everything that could keep a worker from working, each with what to do, in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tiny_bundle
from worker_config import write_config

from stream_classifier.cli import run

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic, NameTopic

Topics = tuple[str, str, str]
NOBODY = ("tickets", "tickets.labelled", "tickets.dead-letter")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "bundle")


@pytest.fixture
def topics(make_topic: MakeTopic) -> Topics:
    return make_topic("tickets", partitions=2), make_topic("labelled", partitions=2), make_topic("dead-letter")


def found(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of `check`, which writes nothing to standard error."""
    shown = capsys.readouterr()
    assert not shown.err
    return shown.out.splitlines()


def test_a_worker_that_will_work(
    tmp_path: Path, bootstrap_servers: str, topics: Topics, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, bootstrap_servers, topics, model={"path": str(bundle)})
    assert run(["check", "--config", str(config)]) == 0
    assert found(capsys) == ["ok       settings", "ok       labels", "ok       model", "ok       kafka"]


def test_each_missing_topic_is_named(
    tmp_path: Path,
    bootstrap_servers: str,
    make_topic: MakeTopic,
    name_topic: NameTopic,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = name_topic(), name_topic()
    config = write_config(tmp_path, bootstrap_servers, (make_topic(), *missing), model={"path": str(bundle)})
    assert run(["check", "--config", str(config)]) == 1
    assert found(capsys)[3:] == [
        f"PROBLEM  kafka: topic {name} is missing; `stream-classifier topics create --config FILE` makes it"
        for name in missing
    ]


def test_different_numbers_of_partitions_are_worth_a_note_and_no_more(
    tmp_path: Path, bootstrap_servers: str, make_topic: MakeTopic, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = make_topic(partitions=2), make_topic(partitions=1), make_topic()
    config = write_config(tmp_path, bootstrap_servers, names, model={"path": str(bundle)})
    assert run(["check", "--config", str(config)]) == 0
    note = "note     kafka: input and output differ in partitions, so a key can change its partition number"
    assert found(capsys)[3:] == [note, "ok       kafka"]


def test_every_problem_is_told_in_one_go(
    tmp_path: Path, bootstrap_servers: str, name_topic: NameTopic, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a label set of one label, a damaged bundle and no topics, when they are checked, then each is named."""
    names = name_topic(), name_topic(), name_topic()
    config = write_config(tmp_path, bootstrap_servers, names, model={"path": str(bundle)})
    (tmp_path / "labels.yaml").write_text("name: s\nversion: 1\nlabels: [one]\n")
    (bundle / "tokenizer.json").write_text("{}")
    assert run(["check", "--config", str(config)]) == 1
    settings, labels, model, *kafka = found(capsys)
    assert settings == "ok       settings"
    assert labels == f"PROBLEM  labels: {tmp_path}/labels.yaml: labels: it takes at least 2 to choose between"
    assert model.startswith(f"PROBLEM  model: {bundle}/tokenizer.json is damaged or was changed")
    assert [line.split()[3] for line in kafka] == list(names)


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"labels": {"path": "nowhere.yaml"}}, "labels: {here}/nowhere.yaml: cannot be read (No such file or"),
        ({"labels": {"use": "other"}}, "labels: there is no label set 'other' (labels.use); there are: support"),
        ({"model": {"path": "nowhere"}}, "model: {here}/nowhere"),
        (
            {"model": {"path": "bundle", "max_length": 65}},
            "model: model.max_length is 65: set at most 64, tiny's limit",
        ),
        ({"kafka": {"consumer": {"nonsense": 1}}}, "client properties: kafka.consumer or kafka.client: No such"),
        (
            {"kafka": {"producer": {"linger.ms": -7}}},
            "client properties: kafka.producer or kafka.client: Configuration",
        ),
    ],
)
def test_offline_finds_what_can_be_found_without_a_broker(
    sections: dict[str, dict[str, object]],
    problem: str,
    tmp_path: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(tmp_path, "nowhere.invalid:9092", NOBODY, **({"model": {"path": bundle.name}} | sections))
    assert run(["check", "--config", str(config), "--offline"]) == 1
    problems = [line for line in found(capsys) if not line.startswith("ok ")]
    assert len(problems) == 1
    assert problems[0].startswith(f"PROBLEM  {problem.format(here=tmp_path)}")


def test_offline_asks_no_broker(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, "nowhere.invalid:9092", NOBODY, model={"path": str(bundle)})
    assert run(["check", "--config", str(config), "--offline"]) == 0
    assert found(capsys) == ["ok       settings", "ok       labels", "ok       model", "ok       client properties"]
