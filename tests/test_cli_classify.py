"""`stream-classifier classify`, in process and as a process, with a real (tiny) model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
import typer
from typer.testing import CliRunner, Result

from stream_classifier.cli.classify import WINDOW, classify
from stream_classifier.cli.texts import MAX_LINE_BYTES
from stream_classifier.errors import StreamClassifierError, UsageError

LABELS = "delivery, refund，password"
COMMAND = (sys.executable, "-c", "from stream_classifier.cli import main; main()", "classify")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(model: Path) -> Any:
    """Runs the command in this process: `run(arguments..., stdin=...)`."""
    app = typer.Typer()
    app.command()(classify)

    def run(*arguments: str | Path, stdin: bytes | str = b"", labels: str | Path | None = LABELS) -> Result:
        options = ["--model", str(model)] + ([] if labels is None else ["--labels", str(labels)])
        return CliRunner().invoke(app, [*map(str, arguments), *options], input=stdin)

    return run


def objects(result: Result) -> list[dict[str, Any]]:
    if result.exception:
        raise result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def labels_of(written: list[dict[str, Any]]) -> list[str | None]:
    return [each["classification"]["label"] for each in written]


def error_of(result: Result, kind: type[StreamClassifierError] = StreamClassifierError) -> str:
    assert isinstance(result.exception, kind), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_texts_from_the_command_line(run: Any) -> None:
    written = objects(run("my parcel", "退款"))
    assert [each["text"] for each in written] == ["my parcel", "退款"]
    assert labels_of(written) == ["delivery", "refund"]
    assert written[0]["classification"]["label_set"] == "adhoc"
    assert len(written[0]["classification"]["labels"]) == 3


def test_lines_from_standard_input_whatever_their_ends(run: Any) -> None:
    written = objects(run(stdin="\ufeffmy parcel\r\n\n  \n密码\nmoney".encode()))
    assert [each["text"] for each in written] == ["my parcel", "密码", "money"]
    assert labels_of(written) == ["delivery", "password", "refund"]


def test_json_lines_keep_every_byte_of_the_object(run: Any) -> None:
    events = ['{ "id" : 1.10, "n": 12345678901234567890123, "text":"my parcel" ', '{"text":"\\u5bc6码"']
    written = run(stdin="\n\n".join(event + "}" for event in events)).stdout.splitlines()
    for event, line, label in zip(events, written, ("delivery", "password"), strict=True):
        assert line.startswith(event + ',"classification":{"label":"' + label)


def test_the_text_may_lie_deep_in_the_object(run: Any) -> None:
    assert labels_of(objects(run("--text-field", "a.b", stdin='{"a":{"b":"login"}}'))) == ["password"]


def test_a_csv_file_with_quotes_and_line_ends_inside(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_bytes('\ufeffid,text\r\n7,"my\nparcel, ""late"""\r\n8,密码\r\n'.encode())
    written = objects(run("--input", path))
    assert [(each["id"], each["text"]) for each in written] == [("7", 'my\nparcel, "late"'), ("8", "密码")]
    assert labels_of(written) == ["delivery", "password"]


def test_csv_comes_through_a_pipe_when_its_column_is_named(run: Any) -> None:
    assert labels_of(objects(run("--text-column", "body", stdin="body,id\nmy parcel,1\n"))) == ["delivery"]


@pytest.mark.parametrize("name", ["tickets.jsonl", "tickets.ndjson", "tickets"])
def test_a_file_of_json_lines(run: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"text":"my parcel"}\n')
    assert labels_of(objects(run("--input", path))) == ["delivery"]


def test_a_text_file_is_plain_lines_whatever_they_begin_with(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "tickets.txt"
    path.write_text("{parcel\n")
    assert [each["text"] for each in objects(run("--input", path))] == ["{parcel"]


def test_many_windows_come_out_in_order(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    words = ["parcel", "money", "login"]
    path.write_text("".join(f'{{"n":{n},"text":"{words[n % 3]} {n}"}}\n' for n in range(5 * WINDOW + 7)))
    written = objects(run("--input", path))
    assert [each["n"] for each in written] == list(range(5 * WINDOW + 7))
    assert labels_of(written) == [("delivery", "refund", "password")[n % 3] for n in range(5 * WINDOW + 7)]


def test_output_goes_to_a_file(run: Any, tmp_path: Path) -> None:
    result = run("my parcel", "--output", tmp_path / "out.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert labels_of([json.loads((tmp_path / "out.jsonl").read_text())]) == ["delivery"]


def test_multi_gives_every_label_that_fits(run: Any) -> None:
    (written,) = objects(run("parcel money", "--multi", "--threshold", "0.01"))
    assert {each["label"] for each in written["classification"]["labels"]} >= {"delivery", "refund"}


def test_one_label_is_enough_with_multi(run: Any) -> None:
    assert labels_of(objects(run("parcel", "--multi", "--threshold", "0.0", labels="delivery"))) == ["delivery"]


def test_threshold_template_and_top_k_reach_the_classifier(run: Any) -> None:
    (written,) = objects(run("hello", "--threshold", "1", "--top-k", "2"))
    assert written["classification"]["label"] is None
    assert len(written["classification"]["labels"]) == 2
    assert "template" in error_of(run("hello", "--template", "about"), UsageError)


def test_a_label_set_file(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "support.yaml"
    path.write_text("{name: support, version: 3, labels: [delivery, refund]}")
    (written,) = objects(run("my parcel", labels=path))
    assert written["classification"]["label_set"] == "support@3"
    assert "--multi" in error_of(run("my parcel", "--multi", labels=path), UsageError)
    assert "cannot be read" in error_of(run("my parcel", labels=tmp_path / "gone.yaml"), UsageError)


@pytest.mark.parametrize(
    ("labels", "problem"), [("delivery", "two or more"), ("a,,b", "number 2 is blank"), ("a,b,a", "'a' is there twice")]
)
def test_lists_of_labels_that_make_no_choice(run: Any, labels: str, problem: str) -> None:
    assert problem in error_of(run("my parcel", labels=labels), UsageError)


@pytest.mark.parametrize(
    ("stdin", "line", "problem"),
    [
        (b'{"text":"secret"}\n{"text":"secret\n', 2, "is not JSON at column"),
        (b'{"text":"secret"}\n\n["secret"]', 3, "is JSON, but not an object"),
        (b'{"text":"secret"}\n{"body":"secret"}', 2, "has no member text; name the text's with --text-field"),
        (b'{"text":["secret"]}', 1, "the member text is not a string"),
        (b'{"text":"secret","classification":1}', 1, "has a member classification already"),
        (b'{"text":"secret"}\n{"text":"\xff secret"}', 2, "is not UTF-8 at byte 10"),
        (b"secret\nsecret \xbf\n", 2, "is not UTF-8 at byte 8"),
        (b"secret\n" + b"s" * (MAX_LINE_BYTES + 1), 2, "is longer than 10,000,000 bytes"),
        (b"{" * 10_000, 1, "is not JSON"),
        (b'{"text":"a\\ud800"}', 1, "is not JSON"),
    ],
    ids=["json", "array", "missing", "not a string", "taken", "utf-8", "utf-8 plain", "long", "deep", "surrogate"],
)
def test_a_bad_line_is_named_by_its_number_and_never_shown(run: Any, stdin: bytes, line: int, problem: str) -> None:
    message = error_of(run(stdin=stdin))
    assert message.startswith(f"standard input, line {line}: {problem}")
    assert "secret" not in message


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("id,body\n1,secret\n", 1, "none of the 2 columns is called 'text'; name it with --text-column"),
        ("secret,text,secret\n", 1, "columns 1 and 3 have the same name"),
        ("text,classification\n", 1, "there is a column classification already; take it out first"),
        ("id,text\n1,secret\n2,secret,more\n", 3, "has 3 columns, the header has 2"),
        ('id,text\n1,"secret', 2, "is not CSV (unexpected end of data)"),
    ],
)
def test_bad_csv_is_named_by_its_line(run: Any, tmp_path: Path, content: str, line: int, problem: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert error_of(run("--input", path)) == f"{path}, line {line}: {problem}"


def test_what_came_before_a_bad_line_is_labelled(run: Any) -> None:
    result = run(stdin="".join(f'{{"text":"parcel {n}"}}\n' for n in range(WINDOW + 9)) + "nonsense\n")
    assert f"line {WINDOW + 10}" in error_of(result)
    assert len(result.stdout.splitlines()) == WINDOW + 9


@pytest.mark.parametrize("stdin", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_input_without_a_text_is_an_error(run: Any, stdin: bytes) -> None:
    assert error_of(run(stdin=stdin)) == "standard input: there is no text in it"


def test_an_empty_csv_file_is_an_error(run: Any, tmp_path: Path) -> None:
    for content in ("", "id,text\n"):
        (tmp_path / "empty.csv").write_text(content)
        assert "there is no text in it" in error_of(run("--input", tmp_path / "empty.csv"))


def test_a_blank_text_and_one_that_the_model_fails_on_are_marked_and_their_neighbours_labelled(run: Any) -> None:
    result = run(stdin='{"text":"parcel"}\n{"text":" \u200b"}\n{"text":"boom"}\n{"text":"money"}\n')
    assert error_of(result) == "2 of 4 texts could not be labelled: see their classification.error"
    written = [json.loads(line)["classification"] for line in result.stdout.splitlines()]
    assert [each["label"] for each in written] == ["delivery", None, None, "refund"]
    assert [each.get("error", {}).get("code") for each in written] == [None, "text_blank", "inference_failed", None]


def test_wrong_usage_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(classify)
    for arguments, problem in (
        (["a", "--input", "b"], "not both"),
        (["--input", str(tmp_path / "gone.csv")], "cannot be read (No such file"),
        (["--input", str(tmp_path)], "cannot be read (Is a directory"),
        (["--text-field", "a", "--text-column", "b"], "give one of them"),
        (["a", "--output", str(tmp_path / "gone" / "out")], "cannot be written (No such file"),
        (["half a \udc80 character"], "text 1 is not UTF-8"),
    ):
        result = CliRunner().invoke(app, [*arguments, "--labels", "a,b", "--model", str(tmp_path / "no model")])
        assert problem in error_of(result, UsageError)


def test_the_input_is_not_overwritten(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "tickets.txt"
    path.write_text("my parcel\n")
    assert "is the input, too" in error_of(run("--input", path, "--output", path), UsageError)
    assert path.read_text() == "my parcel\n"


def test_help_says_what_it_does_with_an_example(run: Any) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "Label texts from the command line, a pipe or a file" in result.stdout
    assert "Example: stream-classifier classify" in result.stdout


def process(model: Path, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
    command = [*COMMAND, *arguments, "--labels", LABELS, "--model", str(model)]
    return subprocess.Popen(command, **{"stderr": subprocess.PIPE, **pipes})


def test_a_pipe_that_trickles_is_labelled_as_it_does(model: Path) -> None:
    """Given a pipe that stays open, when a line has come, then its label comes before the next line is written."""
    with process(model, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for text, label in ((b"my parcel\n\n", "delivery"), (b"money\n", "refund")):
            running.stdin.write(text)
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["classification"]["label"] == label
        running.stdin.close()
        assert running.wait() == 0


def test_a_reader_that_has_enough_ends_it_quietly(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"parcel {n}\n" for n in range(20_000)))
    with process(model, "--input", str(path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline())["text"] == "parcel 0"
        running.stdout.close()
        assert running.wait() == 0
        assert running.stderr.read() == b""


def all_of(terminal: int) -> bytes:
    """What was written to a terminal, until its other side is closed."""
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # how Linux says that it is closed
        pass
    os.close(terminal)
    return shown


def test_on_a_terminal_it_is_a_table_without_control_characters(model: Path) -> None:
    ours, theirs = os.openpty()
    with process(model, "my parcel \x1b[2J", "boom", stdin=subprocess.DEVNULL, stdout=theirs) as running:
        os.close(theirs)
        shown = all_of(ours)
        assert running.wait() == 1
    assert b"classification" not in shown
    assert b"\x1b[2J" not in shown
    for part in (b"label", b"delivery", b"my parcel", b"inference_failed"):
        assert part in shown


def test_a_file_has_a_progress_bar_where_errors_go_to_a_terminal(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tickets.txt"
    path.write_text("my parcel\n" * 10)
    ours, theirs = os.openpty()
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": theirs}
    with process(model, "--input", str(path), **pipes) as running:
        os.close(theirs)
        assert running.stdout is not None
        assert len(running.stdout.readlines()) == 10
        shown = all_of(ours)
        assert running.wait() == 0
    assert b"tickets.txt" in shown
    assert b"100%" in shown
