"""What every command has in common: help, exit codes, errors in one line, and nothing imported that is not needed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest
import tiny_bundle
from worker_config import write_config

from stream_classifier import __version__, cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS = (
    "demo",
    "worker",
    "gateway",
    "gateway-key",
    "classify",
    "publish",
    "watch",
    "dead-letters list",
    "dead-letters show",
    "dead-letters redrive",
    "topics create",
    "check",
    "model show",
    "model verify",
    "model build",
    "broker",
)
TOPICS = ("tickets", "tickets.labelled", "tickets.dead-letter")


@pytest.fixture
def refused_address() -> Iterator[str]:
    """An address where nothing listens, for as long as the test runs."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield "{}:{}".format(*taken.getsockname())


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a shell would."""
    return subprocess.run(
        [sys.executable, "-m", "stream_classifier", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command wrote to standard error."""
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1, errors
    assert errors.startswith("stream-classifier: ")
    return errors.removeprefix("stream-classifier: ").strip()


# Help -----------------------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"stream-classifier {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 0
    shown = capsys.readouterr()
    assert not shown.err
    for name in {name.split()[0] for name in COMMANDS}:
        assert re.search(rf"^  {name} +[A-Z].*\.$", shown.out, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_a_sentence_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*name.split(), "--help"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    paragraphs = [re.sub(r"\s+", " ", part).strip() for part in re.split(r"\n\s*\n", shown.out.strip())]
    assert paragraphs[0].startswith(f"Usage: stream-classifier {name} ")
    assert re.fullmatch(r"[A-Z]([^.]|\.(?! ))*\.", paragraphs[1]), f"not one sentence: {paragraphs[1]}"
    examples = [part for part in paragraphs if part.startswith("Example:")]
    assert len(examples) == 1
    assert examples[0].startswith(f"Example: stream-classifier {name}")


def test_the_command_line_does_not_import_what_it_does_not_need() -> None:
    code = """
import sys
from stream_classifier.cli import run
assert run(["--help"]) == 0
heavy = {"onnxruntime", "confluent_kafka", "tokenizers", "numpy", "pydantic", "rich.table"}
print(sorted(heavy & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.splitlines()[-1] == "[]"


# Exit codes and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "No such option: --nonsense"),
        (["topics"], "Missing command"),
        (["worker"], "Missing option '--config'"),
        (["watch", "--config"], "Option '--config' requires an argument"),
        (["watch", "--config", "x.yaml", "--count", "0"], "Invalid value for '--count' / '-n': "),
        (["broker", "--port", "many"], "Invalid value for '--port': "),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    line = error_line(capsys)
    assert line.startswith(message)
    assert line.endswith("; --help shows how it is used")


CONFIGURED = (
    ["worker"],
    ["publish", "-"],
    ["watch"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "0/0"],
    ["dead-letters", "redrive"],
    ["topics", "create"],
    ["check"],
)


@pytest.mark.parametrize("arguments", CONFIGURED, ids=" ".join)
def test_unreadable_settings_are_one_line_and_exit_code_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "worker.yaml"
    assert cli.run([*arguments, "--config", str(config)]) == 2
    assert error_line(capsys) == (
        f"{config}: cannot be read (No such file or directory); name a settings file with --config"
    )
    write_config(tmp_path, "localhost:1", TOPICS, kafka={"gruop_id": "g"})
    assert cli.run([*arguments, "--config", str(config)]) == 2
    assert error_line(capsys) == f"{config}: kafka.gruop_id is not a setting (did you mean kafka.group_id?)"


@pytest.mark.parametrize("arguments", CONFIGURED, ids=" ".join)
def test_a_property_that_librdkafka_does_not_know_is_one_line_without_its_value(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle.build(tmp_path / "bundle")
    client = {"client.dns.lookup": 'hun"ter2'}
    config = write_config(
        tmp_path, "localhost:1", TOPICS, kafka={"client": client}, model={"path": str(bundle), "threads": 1}
    )
    assert cli.run([*arguments, "--config", str(config)]) == (1 if arguments == ["check"] else 2)
    shown = capsys.readouterr()
    lines = [line for line in (shown.out + shown.err).splitlines() if "client.dns.lookup" in line]
    assert len(lines) == 1
    assert "kafka.client" in lines[0]
    assert "ter2" not in shown.out + shown.err


def test_a_traceback_is_shown_with_debug_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "--config", str(tmp_path / "worker.yaml")]
    assert cli.run(["--debug", *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):")
    assert "SettingsError" in shown
    assert cli.run(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def defective_command(monkeypatch: pytest.MonkeyPatch) -> str:
    """A command with a defect, whose error quotes a user's text."""

    def defective() -> None:
        raise LookupError("where is my parcel")

    module = types.ModuleType("stream_classifier.cli.defective")
    module.defective = defective  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli._COMMANDS, "defective", "Has a defect.")
    return "defective"


def test_an_unexpected_error_says_where_it_was_and_nothing_of_what_it_quotes(
    defective_command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([defective_command]) == 1
    line = error_line(capsys)
    assert re.fullmatch(
        r"unexpected LookupError in test_cli\.py, line \d+; `stream-classifier --debug \.\.\.` shows the traceback",
        line,
    )
    assert cli.run(["--debug", defective_command]) == 1
    assert 'LookupError("where is my parcel")' in capsys.readouterr().err


def test_the_installed_command_is_there() -> None:
    installed = shutil.which("stream-classifier", path=os.path.dirname(sys.executable))  # noqa: PTH120 - of a string
    assert installed, "pip has not installed the command"
    assert (
        subprocess.run([installed, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
        == f"stream-classifier {__version__}\n"
    )


# What a worker needs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("name: s\nversion: 1\nlabels: [one]\n", "labels: it takes at least 2 to choose between"),
        ("name: s\nversion: 1\nlabels: [one, one]\n", "labels: 'one' is there twice"),
        ("name: s\nversion: 1\nlabels: [one\n", "line 4: is not YAML"),
    ],
)
def test_a_bad_label_file_ends_a_worker_before_it_begins(
    labels: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, "localhost:1", TOPICS)
    (tmp_path / "labels.yaml").write_text(labels)
    assert cli.run(["worker", "--config", str(config)]) == 2
    assert message in error_line(capsys)


def ended(errors: str) -> str:
    """The reason in the last line of a worker's log."""
    last = orjson.loads(errors.splitlines()[-1])
    assert last["event"] == "ended"
    assert last["level"] == "error"
    return str(last["reason"])


def test_a_corrupt_bundle_ends_a_worker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle.build(tmp_path / "bundle")
    with (bundle / "model.onnx.data").open("r+b") as weights:
        weights.write(b"\xff")
    config = write_config(tmp_path, "localhost:1", TOPICS, model={"path": str(bundle)})
    assert cli.run(["worker", "--config", str(config)]) == 1
    assert "model.onnx.data is damaged" in ended(capfd.readouterr().err)


def test_a_port_that_is_taken_ends_a_worker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        config = write_config(tmp_path, "localhost:1", TOPICS, observability={"port": port, "log_format": "json"})
        assert cli.run(["worker", "--config", str(config)]) == 2
    reason = ended(capfd.readouterr().err)
    assert reason.startswith(f"cannot serve metrics at 127.0.0.1:{port} (Address already in use); set observability")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_while_it_loads_the_model_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    bundle = tiny_bundle.build(tmp_path / "bundle")
    (bundle / "tokenizer.json").unlink()
    os.mkfifo(bundle / "tokenizer.json")  # a file that nobody finishes reading
    config = write_config(tmp_path, "localhost:1", TOPICS, model={"path": str(bundle)})
    arguments = [sys.executable, "-m", "stream_classifier", "worker", "--config", str(config)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr
        assert orjson.loads(worker.stderr.readline())["event"] == "starting"
        worker.send_signal(number)
        _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert orjson.loads(errors)["event"] == "stopped before there was anything to drain"


def test_a_wrong_address_is_one_clear_line_from_every_command(tmp_path: Path, refused_address: str) -> None:
    """All at once, since each waits ten seconds for a broker that may be starting."""
    bundle = tiny_bundle.build(tmp_path / "bundle")
    config = write_config(tmp_path, refused_address, TOPICS, model={"path": str(bundle), "threads": 1})
    texts = tmp_path / "texts.txt"
    texts.write_text("where is my parcel\n")
    commands = [
        ["worker", "--config", str(config)],
        ["publish", str(texts), "--config", str(config)],
        ["watch", "--config", str(config)],
        ["topics", "create", "--config", str(config)],
        ["check", "--config", str(config)],
        ["demo", "--bootstrap-servers", refused_address],
    ]
    with ThreadPoolExecutor(len(commands)) as threads:
        results = list(threads.map(lambda arguments: command(*arguments), commands))
    for arguments, result in zip(commands, results, strict=True):
        assert result.returncode == 1, (arguments, result.stderr)
        shown = result.stdout + result.stderr
        lines = [line for line in shown.splitlines() if f"no Kafka broker answered at {refused_address}" in line]
        assert len(lines) == 1, (arguments, shown)
        assert "Connection refused" in lines[0]
        assert "look at kafka.bootstrap_servers" in lines[0]
        assert "Traceback" not in shown
        assert "%3|" not in shown, "librdkafka's own log lines"
