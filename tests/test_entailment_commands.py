"""The commands with models of entailment: `classify`, `check`, `model show`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tiny_bundle
import tiny_entailment
from worker_config import write_config

from stream_classifier.cli import run

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = ("tickets", "tickets.labelled", "tickets.dead-letter")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_entailment.build(tmp_path / "bundle")


@pytest.fixture
def similarity(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "similarity")


def test_classify(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["my parcel", "退款"]
    assert run(["classify", *texts, "--labels", "delivery,refund", "--model", str(bundle)]) == 0
    written = [json.loads(line)["classification"] for line in capsys.readouterr().out.splitlines()]
    assert [each["label"] for each in written] == ["delivery", "refund"]
    assert all("decided_by" not in each for each in written)


def test_classify_with_a_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a bundle whose template contradicts every label, then the option is what the model reads, also "{}"."""
    bundle = tiny_entailment.build(tmp_path, template="password login email " * 2 + "{}")
    command = ["classify", "parcel", "--labels", "delivery", "--multi", "--model", str(bundle)]
    labels = []
    for more in ([], ["--template", "{}"]):
        assert run([*command, *more]) == 0
        labels.append(json.loads(capsys.readouterr().out)["classification"]["label"])
    assert labels == [None, "delivery"]


def test_model_show(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "show", "--path", str(bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "task: entailment" in lines
    assert "logits: 3 (0 entailed, 2 contradicted)" in lines
    assert "template: 'this is about {} .'" in lines
    assert "truncation: only_first" in lines


def check(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = run(["check", "--config", str(config), "--offline"])
    return code, capsys.readouterr().out.splitlines()


def test_check_finds_nothing_wrong(
    tmp_path: Path, bundle: Path, similarity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ({"path": str(bundle)}, {"path": str(similarity), "cascade": {"path": bundle.name}}):
        code, lines = check(write_config(tmp_path, "localhost:1", NOBODY, model=model), capsys)
        assert (code, lines[2]) == (0, "ok       model")


def test_check_says_which_label_leaves_no_room(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, "localhost:1", NOBODY, model={"path": str(bundle)})
    (tmp_path / "labels.yaml").write_text(f"name: s\nversion: 1\nlabels: [delivery, {'late ' * 50}]\n")
    code, lines = check(config, capsys)
    assert code == 1
    assert lines[2].startswith("PROBLEM  model: label set s@1: label 2 of 2: its hypothesis has 54 tokens")


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("similarity", "similarity", "{here}/similarity is a model of similarity, not of entailment"),
        ("bundle", "bundle", "{here}/bundle is a model of entailment, which gives no embeddings"),
        ("similarity", "nowhere", "{here}/nowhere is not a model bundle"),
    ],
)
@pytest.mark.usefixtures("bundle", "similarity")
def test_check_says_what_is_wrong_with_a_cascade(
    first: str, second: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"path": first, "cascade": {"path": second}}
    code, lines = check(write_config(tmp_path, "localhost:1", NOBODY, model=model), capsys)
    assert code == 1
    assert lines[2].startswith(f"PROBLEM  model: {problem.format(here=tmp_path)}")


def test_check_refuses_a_tokenizer_that_joins_pairs_as_nobody_does(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    tokenizer["post_processor"]["pair"] = [part for part in tokenizer["post_processor"]["pair"] if "Sequence" in part]
    (bundle / "tokenizer.json").write_text(json.dumps(tokenizer))
    tiny_entailment.sign(bundle)
    code, lines = check(write_config(tmp_path, "localhost:1", NOBODY, model={"path": str(bundle)}), capsys)
    assert code == 1
    assert "how it joins a pair of texts cannot be understood (nothing stands between the texts)" in lines[2]
