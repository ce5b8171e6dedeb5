"""What cannot be exported is refused before it is exported: with one line that says what to do, and nothing written."""

from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import tiny_models
import torch
from exporting import tiny_model

from stream_classifier.errors import ExportError
from stream_classifier_export import cli
from stream_classifier_export.entailment_ids import entailment_ids
from stream_classifier_export.sentence_encoder import SentenceEncoder, sentence_encoder
from stream_classifier_export.source import find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream_classifier.model.bundle import Task

__all__ = ["tiny_model"]


@pytest.fixture
def model(tiny_model: Callable[[str, Task], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a tiny model, to be spoilt."""

    def copy(architecture: str = "bert", task: Task = "entailment") -> Path:
        return shutil.copytree(tiny_model(architecture, task), tmp_path / "models" / f"{architecture}-{task}")

    return copy


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command, and gives the one line that it refuses with."""

    def refused(source: Path | str, *options: str, task: Task = "entailment", status: int = 1) -> str:
        out = tmp_path / "bundles" / "out"
        assert cli.run([str(source), str(out), "--task", task, *options]) == status
        shown = capsys.readouterr()
        assert shown.out == ""
        *progress, line = shown.err.splitlines()
        assert all(line.startswith("reading ") for line in progress)
        assert line.startswith("stream-classifier-export: ")
        assert not (tmp_path / "bundles").exists() or not list((tmp_path / "bundles").iterdir())
        return line.removeprefix("stream-classifier-export: ")

    return refused


def changed(directory: Path, name: str, **fields: Any) -> Path:
    """Changes fields of a JSON file; None removes one."""
    content = json.loads((directory / name).read_bytes()) | fields
    (directory / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return directory


# Weights --------------------------------------------------------------------------------------------------------------


def test_pickled_weights_are_refused_and_the_option_is_named(model: Callable[..., Path], refusal: Any) -> None:
    line = refusal(model("structbert"))
    assert "has pickled weights only (pytorch_model.bin), and unpickling can run code" in line
    assert "--allow-pickled-weights" in line


class _Code:
    """What a pickled file can hold: something that runs when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self._path), "w"))


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_in_pickled_weights_does_not_run_even_when_they_are_allowed(
    form: str, model: Callable[..., Path], refusal: Any, tmp_path: Path
) -> None:
    directory, trace = model("structbert"), tmp_path / "it-ran"
    content = {"bert.embeddings.word_embeddings.weight": _Code(trace)}
    if form == "torch":
        torch.save(content, directory / "pytorch_model.bin")
    else:
        (directory / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    line = refusal(directory, "--allow-pickled-weights")
    assert "pytorch_model.bin is damaged, or holds more than tensors" in line
    assert not trace.exists()


def test_weights_with_another_hash_are_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = model()
    line = refusal(directory, "--weights-sha256", "0" * 64)
    assert "are not those that were asked for: their SHA-256 is " in line
    actual = line.partition("SHA-256 is ")[2][:64]
    assert find(str(directory), weights_sha256=actual.upper()).described.endswith(actual)


@pytest.mark.parametrize("kept", [0.5, 0.999, 0.0])
def test_truncated_safetensors_are_refused(kept: float, model: Callable[..., Path], refusal: Any) -> None:
    weights = model() / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * kept)])
    assert "model.safetensors is damaged or cut short: get the file again" in refusal(weights.parent)


def test_a_part_that_is_missing_is_named(model: Callable[..., Path], refusal: Any) -> None:
    directory = model()
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-00002-of-00002.safetensors, a part of the weights" in refusal(directory)
    index["weight_map"].popitem()
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [path.name for path in find(str(directory)).weights] == ["model-00001-of-00002.safetensors"]


def test_parts_outside_the_directory_are_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = model()
    (directory / "model.safetensors").rename(directory.parent / "other.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    assert "lacks ../other.safetensors" in refusal(directory)


def test_a_directory_without_weights_is_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = model()
    (directory / "model.safetensors").unlink()
    assert "has no weights: expected model.safetensors" in refusal(directory)


def test_a_model_without_its_head_is_no_model_of_entailment(model: Callable[..., Path], refusal: Any) -> None:
    directory = model(task="similarity")
    line = refusal(changed(directory, "config.json", id2label=tiny_models.LABELS))
    assert "do not fit its config.json: classifier.bias" in line


def test_weights_of_another_shape_are_refused(model: Callable[..., Path], refusal: Any) -> None:
    assert "cannot be loaded" in (line := refusal(changed(model(), "config.json", intermediate_size=64))) or (
        "do not fit its config.json" in line
    )


# Architecture and configuration ---------------------------------------------------------------------------------------


def test_a_model_that_brings_code_is_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = changed(model(), "config.json", auto_map={"AutoModel": "modeling.Model"})
    assert "needs code of its own (auto_map in config.json)" in refusal(directory)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "structbart"}, "transformers does not know bert-entailment's architecture, structbart"),
        ({"model_type": None}, "names no model_type"),
        ({"model_type": "bart"}, "is an encoder with a decoder (bart): only encoders are exported"),
    ],
)
def test_an_architecture_that_is_not_exported_is_named(
    fields: dict[str, Any], message: str, model: Callable[..., Path], refusal: Any
) -> None:
    assert message in refusal(changed(model(), "config.json", **fields))


def test_what_is_no_model_is_refused(tmp_path: Path, refusal: Any) -> None:
    assert "it has no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[")
    assert "config.json cannot be read as JSON" in refusal(tmp_path)
    assert "there is no directory " in refusal(tmp_path / "absent")


def test_an_id_that_cannot_be_had_from_the_hub_is_one_line(refusal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever network there is: the hub's own switch for none is on."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = refusal("nobody/no-such-model")
    assert line.startswith("nobody/no-such-model is no directory here and cannot be had from the hub either")


def test_a_model_from_the_hub_is_pinned_to_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the hub's own cache with a model in it and no network, then its files are found, and its commit named."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit, kept = "0123456789" * 4, tmp_path / "models--someone--tiny-nli"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    tiny_models.bert(kept / "snapshots" / commit, task="entailment")
    found = find("someone/tiny-nli")
    assert (found.name, found.revision) == ("tiny-nli", commit)
    assert found.described.startswith("someone/tiny-nli, weights sha256:")
    assert find("someone/tiny-nli", revision=commit).directory == found.directory


def test_a_revision_is_for_the_hub(model: Callable[..., Path], refusal: Any) -> None:
    assert "--revision is for models on a hub" in refusal(model(), "--revision", "main")


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert", "deberta-v2"])
def test_no_text_is_longer_than_the_table_of_positions(
    architecture: str, model: Callable[..., Path], refusal: Any
) -> None:
    """XLM-RoBERTa's table has 66 rows, and its first token the third of them."""
    line = refusal(model(architecture), "--max-length", "65")
    assert f"--max-length 65 does not fit {architecture}-entailment: it has positions for 64 tokens" in line


def test_a_text_needs_room_between_its_special_tokens(model: Callable[..., Path], refusal: Any) -> None:
    assert "and 3 are the fewest" in refusal(model(), "--max-length", "2")


# Entailment -----------------------------------------------------------------------------------------------------------


def test_classes_without_names_are_refused_unless_their_ids_are_given(model: Callable[..., Path], refusal: Any) -> None:
    names = {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    directory = changed(model(), "config.json", id2label=names, label2id=None)
    line = refusal(directory)
    assert "does not name its classes entailment and contradiction (0: LABEL_0, 1: LABEL_1, 2: LABEL_2)" in line
    assert "--entailment-id and --contradiction-id" in line
    assert "does not name its classes" in refusal(directory, "--entailment-id", "1")
    given = refusal(directory, "--entailment-id", "1", "--contradiction-id", "3")
    assert "entailment 1 and contradiction 3 are not two of the model's classes" in given


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({0: "contradiction", 1: "neutral", 2: "entailment"}, (2, 0)),
        ({0: "ENTAILMENT", 1: "NEUTRAL", 2: "CONTRADICTION"}, (0, 2)),
        ({0: "entailment", 1: "not_entailment"}, (0, 1)),
        ({0: "not_entailment", 1: "entailment"}, (1, 0)),
    ],
)
def test_classes_are_found_by_their_names(names: dict[int, str], expected: tuple[int, int]) -> None:
    assert entailment_ids(names) == expected


@pytest.mark.parametrize(
    "names",
    [
        {0: "entailment"},
        {0: "positive", 1: "negative"},
        {0: "entailment", 1: "neutral", 2: "other"},
        {0: "entailment", 1: "entailment (weak)", 2: "contradiction"},
    ],
)
def test_classes_that_do_not_say_are_not_guessed(names: dict[int, str]) -> None:
    with pytest.raises(ExportError):
        entailment_ids(names)


def test_ids_that_are_given_go_over_names() -> None:
    names = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert entailment_ids(names, entailment_id=0, contradiction_id=2) == (0, 2)


# Sentence encoders ----------------------------------------------------------------------------------------------------


def encoder(directory: Path, *modules: str, **pooling: Any) -> Path:
    """Writes sentence-transformers' files."""
    paths = {"Pooling": "1_Pooling"}
    kinds = [(kind, f"sentence_transformers.models.{kind}") for kind in modules]
    listed = [{"idx": place, "path": paths.get(kind, ""), "type": name} for place, (kind, name) in enumerate(kinds)]
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return directory


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_pooling_is_read_from_the_models_own_files(pooling: dict[str, Any], expected: str, tmp_path: Path) -> None:
    encoder(tmp_path, "Transformer", "Pooling", "Normalize", **pooling)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 48}')
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert sentence_encoder(tmp_path) == SentenceEncoder(expected, 48, "query: ")  # type: ignore[arg-type]


def test_modules_and_poolings_that_are_not_exported_are_named(model: Callable[..., Path], refusal: Any) -> None:
    directory = encoder(model(task="similarity"), "Transformer", "Pooling", "Dense", pooling_mode="mean")
    assert "has a module that is not exported, Dense" in refusal(directory, task="similarity")
    encoder(directory, "Transformer", "Pooling", pooling_mode_max_tokens=True)
    assert "pools tokens by max_tokens: only mean and cls" in refusal(directory, task="similarity")


def test_pooling_that_nobody_names_is_asked_for(model: Callable[..., Path], refusal: Any) -> None:
    line = refusal(model(task="similarity"), task="similarity", status=2)
    assert "does not say how it pools tokens (1_Pooling): add --pooling mean or cls" in line


# Tokenizers -----------------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_is_not_there_is_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = model("xlm-roberta")
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    assert "xlm-roberta-entailment has no vocabulary" in refusal(directory)


def test_a_tokenizer_that_cannot_be_read_is_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = model("xlm-roberta")
    (directory / "tokenizer.json").write_text("{}")
    assert "the tokenizer of xlm-roberta-entailment cannot be loaded" in refusal(directory)


def test_a_tokenizer_that_has_lost_its_vocabulary_is_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = model()
    words = (directory / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (directory / "vocab.txt").write_text("\n".join(words[: len(words) // 3]), encoding="utf-8")
    assert "they do not belong together" in refusal(directory)


def test_a_tokenizer_with_more_ids_than_the_model_has_vectors_is_refused(
    model: Callable[..., Path], refusal: Any
) -> None:
    directory = model()
    with (directory / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("another\n")
    assert "they do not belong together" in refusal(directory)


def test_a_tokenizer_that_pads_with_another_id_is_refused(model: Callable[..., Path], refusal: Any) -> None:
    directory = changed(model("xlm-roberta"), "tokenizer_config.json", pad_token="<unk>")  # noqa: S106 - a token
    assert "pads with id 3 and the model's positions leave out id 1" in refusal(directory)


def test_structbert_needs_its_own_vocabulary(model: Callable[..., Path], refusal: Any) -> None:
    directory = model("structbert")
    (directory / "vocab.txt").unlink()
    assert "has no vocabulary" in (line := refusal(directory, "--allow-pickled-weights"))
    assert line.endswith("(vocab.txt)")


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        (("--activations", "static"), "similarity", "add --calibration FILE"),
        (("--calibration", "texts"), "similarity", "--calibration is for --activations static"),
        (("--template", "{}"), "similarity", "--template has no meaning for the task similarity"),
        (("--prefix", "query: "), "entailment", "--prefix has no meaning for the task entailment"),
        (("--template", "about"), "entailment", "--template needs {} where the label is to stand"),
        (("--temperature", "0"), "entailment", "--temperature takes a number above 0"),
        (("--limit", "nan"), "entailment", "--limit takes a number above 0"),
        (("--precision", "int4"), "entailment", "Invalid value for '--precision'"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(
    options: tuple[str, ...], task: Task, message: str, model: Callable[..., Path], refusal: Any
) -> None:
    assert message in refusal(model(task=task), *options, task=task, status=2)


def test_too_few_texts_to_measure_on_are_refused_before_anything_is_exported(
    model: Callable[..., Path], refusal: Any, tmp_path: Path
) -> None:
    (tmp_path / "texts").write_text("one\ntwo\n")
    options = ("--activations", "static", "--calibration", str(tmp_path / "texts"))
    assert "has 2 texts: static activations need 50 or more" in refusal(model(), *options)


def test_a_directory_that_holds_something_else_is_not_touched(
    model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    assert cli.run([str(model()), str(tmp_path / "out"), "--task", "entailment", "--force"]) == 2
    assert "is there, and is no bundle: name another directory" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine").read_text() == "kept"


def test_help_is_a_sentence_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    assert "Example: stream-classifier-export models/nli bundles/nli --task entailment" in capsys.readouterr().out
