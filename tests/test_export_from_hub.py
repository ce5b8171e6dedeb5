"""Models are brought from a hub: a real server on this machine, and the hub's own client."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import hub
import pytest
from exporting import answers, tiny_model

from stream_classifier.model.bundle import read_manifest
from stream_classifier_export import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream_classifier.model.bundle import Task

__all__ = ["tiny_model"]

MODEL = "someone/tiny-nli"
CODE = "modeling_tiny.py"
PICKLED = "pytorch_model.bin"


@pytest.fixture
def server(
    tiny_model: Callable[[str, Task], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[hub.Hub]:
    """A hub that has one model, with pickled weights and code beside the rest, and a cache that has nothing."""
    directory = shutil.copytree(tiny_model("bert", "entailment"), tmp_path / "model")
    for name in (CODE, PICKLED, "training_args.bin", "flax_model.msgpack", "run.sh"):
        # No two alike: the hub's client fetches the same content once.
        (directory / name).write_text(f"raise SystemExit('{name} was run')")
    (directory / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub.running() as server:
        server.models[MODEL] = directory
        point_to(server.endpoint, monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Runs the command on an id; gives its status and the lines on standard error."""

    def run(model: str = MODEL, *options: str) -> tuple[int, list[str]]:
        status = cli.run([model, str(tmp_path / "bundle"), "--task", "entailment", *options])
        return status, capsys.readouterr().err.splitlines()

    return run


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does, which the hub's client reads when it is imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


def refusal(done: tuple[int, list[str]]) -> str:
    status, lines = done
    assert status == 1
    [line] = [line for line in lines if not line.startswith("reading ")]
    return line.removeprefix("stream-classifier-export: ")


def test_a_model_is_brought_by_its_id_and_exported(server: hub.Hub, export: Any, tmp_path: Path) -> None:
    """Given an id, then what the model needs is fetched and nothing that could run; the manifest has the commit."""
    status, lines = export()
    assert (status, lines[-1].startswith("wrote ")) == (0, True)
    manifest = read_manifest(tmp_path / "bundle")
    assert (manifest.name, manifest.revision, manifest.licence) == ("tiny-nli", hub.COMMIT, "mit")
    assert manifest.source.startswith(f"{MODEL}, weights sha256:")
    assert sorted(server.fetched) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert answers(tmp_path / "bundle", [("where is my parcel", "about money")]).shape == (1, 3)


def test_what_was_brought_once_is_had_without_a_network(
    server: hub.Hub, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export()[0] == 0
    before = len(server.fetched)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert export(MODEL, "--force")[0] == 0
    assert len(server.fetched) == before


def test_a_commit_can_be_named(server: hub.Hub, export: Any, tmp_path: Path) -> None:
    assert export(MODEL, "--revision", hub.COMMIT)[0] == 0
    assert read_manifest(tmp_path / "bundle").revision == hub.COMMIT
    assert server.fetched


def test_pickled_weights_are_fetched_only_when_they_are_allowed(server: hub.Hub, export: Any) -> None:
    """Given a model that has no others, then without the option it is refused before anything of them is here."""
    (server.models[MODEL] / "model.safetensors").unlink()
    line = refusal(export())
    assert line.endswith(
        "has no weights: expected model.safetensors, or --allow-pickled-weights to bring pickled ones from a hub"
    )
    assert PICKLED not in server.fetched
    assert "is damaged, or holds more than tensors" in refusal(export(MODEL, "--allow-pickled-weights"))
    assert PICKLED in server.fetched
    assert CODE not in server.fetched


def test_a_model_that_asks_for_code_of_its_own_gets_none(server: hub.Hub, export: Any) -> None:
    config = server.models[MODEL] / "config.json"
    asking = json.loads(config.read_bytes()) | {"model_type": "tiny", "auto_map": {"AutoConfig": "modeling_tiny.Tiny"}}
    config.write_text(json.dumps(asking))
    assert refusal(export())
    assert CODE not in server.fetched


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_an_id_that_the_hub_does_not_have(server: hub.Hub, export: Any) -> None:
    line = refusal(export("someone/other"))
    assert line == (
        "someone/other is no directory here and cannot be had from the hub either: it has none of this name, or not for"
        " everybody; see that the id is right, or set HF_TOKEN"
    )
    assert not server.fetched


def test_a_revision_that_the_model_does_not_have(server: hub.Hub, export: Any) -> None:
    line = refusal(export(MODEL, "--revision", "v9"))
    assert line.endswith("either: it has the model, but no revision v9 of it; name another with --revision")
    assert not server.fetched


def test_a_model_behind_terms(server: hub.Hub, export: Any) -> None:
    server.gated.add(MODEL)
    line = refusal(export())
    assert line.endswith("either: somebody has to accept its terms there first; do so, and set HF_TOKEN")


def test_no_network_by_choice(server: hub.Hub, export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = refusal(export())
    assert line.endswith(
        "either: HF_HUB_OFFLINE is set and the hub's cache lacks it; unset that, or name the model's directory"
    )
    assert not server.fetched


def test_a_hub_that_cannot_be_reached(server: hub.Hub, export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub.running() as gone:
        nobody = gone.endpoint
    point_to(nobody, monkeypatch)
    line = refusal(export())
    assert line.endswith("(ConnectError); see that it can be reached, or name the model's directory")
    assert not server.fetched


def test_a_hub_that_breaks_off(server: hub.Hub, export: Any, tmp_path: Path) -> None:
    """Given half of the weights and no more, then nothing is exported; when the hub is whole again, all is."""
    server.breaks_off.add("model.safetensors")
    line = refusal(export())
    assert line.startswith(f"{MODEL} is no directory here and cannot be had from the hub either: something failed")
    assert not (tmp_path / "bundle").exists()
    server.breaks_off.clear()
    assert export()[0] == 0
