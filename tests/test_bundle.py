"""A bundle is what its manifest says, or it is refused with one line that says what to do."""

import json
from pathlib import Path

import pytest
import tiny_bundle
from typer.testing import CliRunner

from stream_classifier.cli.model import app
from stream_classifier.errors import BundleError
from stream_classifier.model.bundle import MANIFEST_FILE, Manifest, read_manifest, verify, write_manifest

FILES = ("model.onnx", "model.onnx.data", "tokenizer.json")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "tiny")


def changed(directory: Path, **fields: object) -> Manifest:
    return Manifest.model_validate(read_manifest(directory).model_dump() | fields)


def refusal(directory: Path) -> str:
    with pytest.raises(BundleError) as caught:
        verify(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert "stream-classifier model build" in message
    return message


def test_an_untouched_bundle_is_verified(bundle: Path) -> None:
    assert verify(bundle) == read_manifest(bundle)


def test_a_manifest_is_read_as_it_was_written(bundle: Path, tmp_path: Path) -> None:
    manifest = changed(bundle, prefix="文: ", temperature=0.1 + 0.2)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_any_file_is_found(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    assert f"{name} is damaged or was changed" in refusal(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(bundle: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1])
    assert f"{name} is damaged" in refusal(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert f"{name} is missing" in refusal(bundle)


def test_a_directory_in_place_of_a_file_is_refused(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").mkdir()
    assert "cannot be read" in refusal(bundle)


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert "is not a model bundle" in refusal(tmp_path)
    assert "is not a model bundle" in refusal(tmp_path / "absent")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"not json", b'{"format":1}', b"\xff\xfe", b'{"format":' + b"[" * 100_000],
    ids=["empty", "array", "words", "fields missing", "not UTF-8", "nested deeply"],
)
def test_a_manifest_that_cannot_be_understood_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST_FILE).write_bytes(content)
    assert "cannot be understood" in refusal(bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("task", "translation"),
        ("precision", "int4"),
        ("dimensions", 0),
        ("temperature", 0),
        ("temperature", -1),
        ("max_length", 2),
        ("name", "two words"),
        ("name", "../tiny"),
        ("examples", []),
    ],
)
def test_a_field_with_a_wrong_value_is_named(bundle: Path, field: str, value: object) -> None:
    content = json.loads((bundle / MANIFEST_FILE).read_bytes())
    (bundle / MANIFEST_FILE).write_text(json.dumps(content | {field: value}))
    assert f"({field}: " in refusal(bundle)


ENTAILMENT = {"entailment_id": 0, "contradiction_id": 2, "template": "{}", "truncation": "only_first"}


@pytest.mark.parametrize(
    "change",
    [
        {"task": "entailment"},
        {"entailment": ENTAILMENT},
        {"task": "entailment", "dimensions": 2, "entailment": ENTAILMENT},
        {"task": "entailment", "dimensions": 3, "entailment": ENTAILMENT | {"entailment_id": 3}},
        {"task": "entailment", "dimensions": 3, "entailment": ENTAILMENT | {"entailment_id": 2}},
    ],
)
def test_a_task_that_does_not_fit_how_the_model_is_asked_is_refused(bundle: Path, change: dict[str, object]) -> None:
    content = json.loads((bundle / MANIFEST_FILE).read_bytes())
    (bundle / MANIFEST_FILE).write_text(json.dumps(content | change))
    assert "entailment" in refusal(bundle)
    good = {"task": "entailment", "dimensions": 3, "entailment": ENTAILMENT}
    (bundle / MANIFEST_FILE).write_text(json.dumps(content | good))
    assert read_manifest(bundle).entailment is not None


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "sub/model.onnx", "..", "", "manifest.json", "a\\b"])
def test_files_outside_the_bundle_cannot_be_named(bundle: Path, name: str) -> None:
    content = json.loads((bundle / MANIFEST_FILE).read_bytes())
    content["files"][name] = "0" * 64
    (bundle / MANIFEST_FILE).write_text(json.dumps(content))
    assert "is not a plain file name" in refusal(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_manifest_must_list_what_it_takes_to_run(bundle: Path, name: str) -> None:
    content = json.loads((bundle / MANIFEST_FILE).read_bytes())
    del content["files"][name]
    (bundle / MANIFEST_FILE).write_text(json.dumps(content))
    assert f"lacks {name}" in refusal(bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("precision", "int7"),
        ("activations", "per_token"),
        ("dimensions", 9),
        ("prefix", "query: "),
        ("temperature", 0.2),
        ("max_length", 63),
    ],
)
def test_the_hash_covers_what_changes_results(bundle: Path, field: str, value: object) -> None:
    assert changed(bundle, **{field: value}).hash != read_manifest(bundle).hash


@pytest.mark.parametrize("field", ["licence", "source", "builder"])
def test_the_hash_leaves_out_what_does_not_change_results(bundle: Path, field: str) -> None:
    assert changed(bundle, **{field: "other"}).hash == read_manifest(bundle).hash


def test_the_hash_covers_the_files_in_whatever_order(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert changed(bundle, files=dict(reversed(manifest.files.items()))).hash == manifest.hash
    assert changed(bundle, files=manifest.files | {"model.onnx": "0" * 64}).hash != manifest.hash
    assert changed(bundle, files=manifest.files | {"more.bin": "0" * 64}).hash != manifest.hash


def test_the_identity_is_the_name_and_eight_digits_of_the_hash(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.identity == f"tiny@{manifest.hash[:8]}" == f"tiny@{manifest.short_hash}"


def test_a_tiny_bundle_is_the_same_each_time(tmp_path: Path) -> None:
    once, again, other = (
        read_manifest(tiny_bundle.build(tmp_path / name, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert once.hash == again.hash != other.hash
    assert read_manifest(tiny_bundle.build(tmp_path / "a")).hash == once.hash  # over itself


class TestCommands:
    """`model show` and `model verify` on a bundle of one's own."""

    def test_show_prints_plain_lines_where_there_is_no_terminal(self, bundle: Path) -> None:
        result = CliRunner().invoke(app, ["show", "--path", str(bundle)])
        manifest = read_manifest(bundle)
        lines = result.stdout.splitlines()
        assert result.exit_code == 0
        assert f"identity: {manifest.identity}" in lines
        assert f"maximum length: {tiny_bundle.MAX_LENGTH} tokens" in lines
        for name in FILES:
            assert any(line.startswith(f"file: {name} ") and manifest.files[name] in line for line in lines)

    def test_show_prints_a_table_on_a_terminal(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "60")
        result = CliRunner().invoke(app, ["show", "--path", str(bundle)])
        assert result.exit_code == 0
        assert "\x1b[1midentity" in result.stdout
        assert max(len(line) for line in result.stdout.splitlines()) < 80

    def test_show_prints_json(self, bundle: Path) -> None:
        content = json.loads(CliRunner().invoke(app, ["show", "--path", str(bundle), "--json"]).stdout)
        manifest = read_manifest(bundle)
        assert (content["identity"], content["hash"]) == (manifest.identity, manifest.hash)
        assert content["files"] == [
            {"name": name, "size": (bundle / name).stat().st_size, "sha256": manifest.files[name]} for name in FILES
        ]

    def test_show_says_which_file_is_missing(self, bundle: Path) -> None:
        (bundle / "model.onnx.data").unlink()
        assert "file: model.onnx.data missing" in CliRunner().invoke(app, ["show", "--path", str(bundle)]).stdout

    def test_verify_finds_a_whole_bundle_whole(self, bundle: Path) -> None:
        result = CliRunner().invoke(app, ["verify", "--path", str(bundle)])
        assert result.exit_code == 0
        assert f"{read_manifest(bundle).identity} is whole" in result.stdout

    def test_verify_refuses_a_damaged_one(self, bundle: Path) -> None:
        (bundle / "tokenizer.json").write_text("{}")
        result = CliRunner().invoke(app, ["verify", "--path", str(bundle)])
        assert isinstance(result.exception, BundleError)
        assert result.exception.exit_code == 1

    @pytest.mark.parametrize("command", ["show", "verify"])
    def test_they_say_how_to_build_what_is_not_built_yet(
        self, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        result = CliRunner().invoke(app, [command])
        assert isinstance(result.exception, BundleError)
        assert "not built yet: run `stream-classifier model build`" in str(result.exception)

    @pytest.mark.parametrize("command", ["show", "verify", "build"])
    def test_each_has_an_example_in_its_help(self, command: str) -> None:
        assert f"Example: stream-classifier model {command}" in CliRunner().invoke(app, [command, "--help"]).stdout
