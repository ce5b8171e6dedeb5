"""`stream-classifier evaluate` and `calibrate`, in process, with a real (tiny) model."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
import tiny_entailment
import typer
from PIL import Image
from typer.testing import CliRunner, Result
from worker_config import write_config

from stream_classifier.classify.classification import Classification
from stream_classifier.classify.classifier import Classifier, Request
from stream_classifier.classify.labels import LabelSet, choose, load_label_sets
from stream_classifier.classify.opening import open_configured
from stream_classifier.cli.calibrate import calibrate
from stream_classifier.cli.evaluate import evaluate
from stream_classifier.cli.scoring import WINDOW
from stream_classifier.errors import SettingsError, StreamClassifierError, UsageError
from stream_classifier.settings_file import load_settings

LABELS = "{name: support, version: 3, labels: [delivery, refund, password]}"
MULTI = "{name: both, version: 1, mode: multi, labels: [delivery, refund, password]}"
# A password is taken for a refund once, and the label of the last text cannot be known.
ROWS = [
    ("my parcel is late", "delivery"),
    ("courier, shipping", "delivery"),
    ("退款 secret", "refund"),
    ("money", "refund"),
    ("login", "password"),
    ("payment invoice secret", "password"),
    ("hello secret", "delivery"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("other"), name="other", seed=3)


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Any:
    """Runs a command in this process, in a directory of its own: `run(evaluate, file, ..., labels=...)`."""

    def run(command: Any, *arguments: str | Path, labels: Path | None = None) -> Result:
        app = typer.Typer()
        app.command()(command)
        labels = labels or written(tmp_path / "support.yaml", LABELS)
        return CliRunner().invoke(app, [*map(str, arguments), "--model", str(model), "--labels", str(labels)])

    return run


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def csv_of(path: Path, rows: list[tuple[str, str]] = ROWS, header: str = "text,label") -> Path:
    return written(path, "\n".join([header, *(f'"{text}",{label}' for text, label in rows), ""]))


def done(result: Result) -> str:
    if result.exception:
        raise result.exception
    return result.stdout


def error_of(result: Result, kind: type[StreamClassifierError] = StreamClassifierError) -> str:
    assert isinstance(result.exception, kind), result.output
    assert "\n" not in str(result.exception)
    assert "secret" not in result.output + str(result.exception)
    return str(result.exception)


def evaluated(result: Result) -> dict[str, Any]:
    (one,) = json.loads(done(result))["evaluations"]
    assert isinstance(one, dict)
    return one


def test_figures_of_a_file(run: Any, tmp_path: Path) -> None:
    found = evaluated(run(evaluate, csv_of(tmp_path / "rows.csv"), "--json"))
    assert (found["texts"], found["label_set"], found["mode"]) == (7, "support@3", "single")
    right = found["accuracy"] * 7
    assert right == pytest.approx(round(right))
    assert 5 <= right <= 6
    assert found["coverage"] == 1
    support = {label["name"]: label["support"] for label in found["labels"]}
    assert support == {"delivery": 3, "refund": 2, "password": 2}
    assert found["confusion"][2] == [0, 1, 1, 0]
    assert sum(each["texts"] for each in found["reliability"]) == 7


def test_json_lines_say_the_same_as_csv(run: Any, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"a": {"t": text}, "gold": label}) + "\n" for text, label in ROWS)
    path = written(tmp_path / "rows.jsonl", lines)
    by_lines = evaluated(run(evaluate, path, "--text-field", "a.t", "--label-field", "gold", "--json"))
    by_csv = evaluated(
        run(
            evaluate,
            csv_of(tmp_path / "rows.data", header="t,gold"),
            "--text-column",
            "t",
            "--label-column",
            "gold",
            "--json",
        )
    )
    for found in (by_lines, by_csv):
        del found["seconds"], found["texts_per_second"]
    assert by_lines == by_csv


def test_tables_and_pictures_for_people_hold_no_text(run: Any, tmp_path: Path) -> None:
    shown = done(run(evaluate, csv_of(tmp_path / "rows.csv")))
    for part in ("support@3", "accuracy", "macro F1", "ECE", "password", "threshold", "texts/s", "share that is right"):
        assert part in shown
    assert re.search(r"^ +1 +password +refund", shown, re.MULTILINE)
    assert "█" in shown
    assert "secret" not in shown


def test_more_labels_than_fit_are_said_not_to(run: Any, tmp_path: Path) -> None:
    names = ", ".join(f"label{number}" for number in range(250))
    labels = written(tmp_path / "many.yaml", f"{{name: many, version: 1, labels: [delivery, {names}]}}")
    shown = done(run(evaluate, csv_of(tmp_path / "rows.csv", [("parcel", "delivery")]), labels=labels))
    assert "251 labels do not fit into 200 columns" in shown


def test_a_report_needs_no_other_file_and_holds_no_text_unless_asked(run: Any, tmp_path: Path) -> None:
    rows, report = csv_of(tmp_path / "rows.csv"), tmp_path / "report.html"
    labels = written(tmp_path / "odd.yaml", LABELS.replace("refund", '"<b>refund</b>"'))
    rows.write_text(rows.read_text().replace(",refund", ",<b>refund</b>"))
    done(run(evaluate, rows, "--html", report, labels=labels))
    text = report.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert "secret" not in text
    assert not re.search(r"(?i)https?:|//|\b(src|href)=|url\(|@import|<script|<link|<b>", text.replace("</", "<"))
    assert "&lt;b&gt;refund&lt;/b&gt;" in text
    assert text.count("<svg") == 2
    done(run(evaluate, rows, "--html", report, "--show-texts", "1", labels=labels))
    text = report.read_text(encoding="utf-8")
    assert sum(wrong in text for wrong in ("payment invoice secret", "hello secret")) == 1
    assert "退款 secret" not in text


def test_the_surest_mistakes_are_shown_first(run: Any, tmp_path: Path) -> None:
    wrong = [("parcel", "refund"), ("parcel parcel money", "refund"), ("money money", "refund")]
    report = tmp_path / "report.html"
    done(run(evaluate, csv_of(tmp_path / "rows.csv", wrong), "--html", report, "--show-texts", "5"))
    text = report.read_text(encoding="utf-8").partition("Wrong, and sure of it")[2]
    shown = re.findall(r"<td>([^<]+)</td><td>refund</td><td>delivery</td>", text)
    assert shown == ["parcel", "parcel parcel money"]


def test_a_picture_is_drawn_also_of_names_that_no_font_has(run: Any, tmp_path: Path) -> None:
    labels = written(tmp_path / "odd.yaml", "{name: odd, version: 1, labels: [delivery, 退款, '$x_\U0001f600']}")
    picture = tmp_path / "confusion.png"
    done(
        run(
            evaluate,
            csv_of(tmp_path / "rows.csv", [("parcel", "delivery"), ("钱", "退款")]),
            "--png",
            picture,
            labels=labels,
        )
    )
    with Image.open(picture) as image:
        image.load()
        assert image.format == "PNG"
        assert image.size[0] > 300
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10


def test_two_label_sets_side_by_side(run: Any, tmp_path: Path) -> None:
    worse = written(tmp_path / "worse.yaml", "{name: worse, version: 1, labels: [refund, password, delivery, late]}")
    rows = [("late", "delivery")] * 9 + [("money", "refund")]
    report, picture = tmp_path / "report.html", tmp_path / "both.png"
    path = csv_of(tmp_path / "rows.csv", rows)
    found = json.loads(done(run(evaluate, path, "--against", worse, "--json", "--html", report, "--png", picture)))
    assert [one["label_set"] for one in found["evaluations"]] == ["support@3", "worse@1"]
    compared = found["comparison"]
    assert (compared["both"], compared["only_first"], compared["only_second"], compared["neither"]) == (1, 9, 0, 0)
    assert compared["difference"] == -0.9
    assert compared["p_value"] == pytest.approx(2 / 2**9)
    assert compared["interval_95"][1] < 0
    assert "McNemar" in report.read_text(encoding="utf-8")
    assert picture.stat().st_size > 1000
    shown = done(run(evaluate, path, "--against", worse))
    assert "second: worse@1" in shown
    assert "9 only before" in shown


def test_two_models_side_by_side(run: Any, tmp_path: Path, other_model: Path) -> None:
    found = json.loads(done(run(evaluate, csv_of(tmp_path / "rows.csv"), "--against", other_model, "--json")))
    first, second = (one["model"] for one in found["evaluations"])
    assert (first.partition("@")[0], second.partition("@")[0]) == ("tiny", "other")
    assert sum(found["comparison"][part] for part in ("both", "only_first", "only_second", "neither")) == 7


def test_a_model_of_entailment_against_one_of_similarity(run: Any, tmp_path: Path) -> None:
    entailment = tiny_entailment.build(tmp_path / "entailment")
    found = json.loads(done(run(evaluate, csv_of(tmp_path / "rows.csv"), "--against", entailment, "--json")))
    assert [one["model"].partition("@")[0] for one in found["evaluations"]] == ["tiny", "tiny-entailment"]
    assert found["evaluations"][1]["accuracy"] > 0.5


def test_single_and_multi_cannot_be_compared(run: Any, tmp_path: Path) -> None:
    multi = written(tmp_path / "multi.yaml", MULTI)
    assert "cannot be compared" in error_of(run(evaluate, csv_of(tmp_path / "r.csv"), "--against", multi), UsageError)


def test_texts_with_several_labels(run: Any, tmp_path: Path) -> None:
    labels = written(tmp_path / "multi.yaml", MULTI.replace("mode", "threshold: 0.01, mode"))
    lines = [
        {"text": "parcel money", "label": ["refund", "delivery"]},
        {"text": "login", "label": "password"},
        {"text": "hello", "label": []},
        {"text": "hi", "label": None},
        {"text": "money parcel", "label": "delivery; refund"},
    ]
    path = written(tmp_path / "rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    found = evaluated(run(evaluate, path, "--json", labels=labels))
    assert {label["name"]: label["support"] for label in found["labels"]} == {"delivery": 2, "refund": 2, "password": 1}
    assert found["mode"] == "multi"
    assert found["confusion"][2][2] == 1
    by_bar = csv_of(tmp_path / "rows.csv", [("parcel money", "refund|delivery"), ("hello", "")])
    assert evaluated(run(evaluate, by_bar, "--separator", "|", "--json", labels=labels))["texts"] == 2
    assert "all labels right" in done(run(evaluate, by_bar, "--separator", "|", labels=labels))


def test_examples_of_the_label_set_in_the_file_are_counted(run: Any, tmp_path: Path) -> None:
    labels = written(
        tmp_path / "taught.yaml",
        "{name: t, version: 1, labels: [{name: delivery, examples: [money]}, {name: refund, examples: [h]}, password]}",
    )
    path = csv_of(tmp_path / "rows.csv")
    assert evaluated(run(evaluate, path, "--json", labels=labels))["examples_seen"] == 1
    assert "are examples, too" in done(run(evaluate, path, labels=labels))


def test_many_windows_are_counted_once_each(run: Any, tmp_path: Path) -> None:
    rows = [
        (f"{('parcel', 'money', 'login')[n % 3]} {n}", ("delivery", "refund", "password")[n % 3])
        for n in range(5 * WINDOW + 7)
    ]
    found = evaluated(run(evaluate, csv_of(tmp_path / "rows.csv", rows), "--json"))
    assert found["texts"] == len(rows)
    assert found["accuracy"] == 1
    assert [label["support"] for label in found["labels"]] == [429, 429, 429]


def test_texts_that_make_the_model_fail_are_left_out_and_end_it_with_an_error(run: Any, tmp_path: Path) -> None:
    rows = [*ROWS, (f"{tiny_bundle.BOOM} secret", "delivery")]
    result = run(evaluate, csv_of(tmp_path / "rows.csv", rows), "--json")
    assert error_of(result) == "1 of 8 texts could not be labelled, and are in no figure"
    (found,) = json.loads(result.stdout)["evaluations"]
    assert (found["texts"], found["failed"]) == (7, 1)
    only = csv_of(tmp_path / "only.csv", [(tiny_bundle.BOOM, "delivery")])
    assert error_of(run(evaluate, only)).endswith("the model fails on each of the 1 texts")


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("text,label\nsecret,delivery\nsecret,secret\n", 3, "its label is none of the 3 of support@3"),
        ("text,label\nsecret,Delivery\n", 2, "its label is none of the 3 of support@3 (did you mean 'delivery'?)"),
        ("text,label\nsecret,\n", 2, "its label is not one name: support@3 gives each text exactly one"),
        ("text,label\n ,delivery\n", 2, "its text is blank: take such rows out first"),
        ("text,gold\nsecret,delivery\n", 2, "has no column label: name it with --label-column"),
        ("body,label\nsecret,delivery\n", 1, "none of the 2 columns is called 'text'; name it with --text-column"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_never_shown(
    run: Any, tmp_path: Path, content: str, line: int, problem: str
) -> None:
    path = written(tmp_path / "rows.csv", content)
    for command in (evaluate, calibrate):
        assert error_of(run(command, path)).startswith(f"{path}, line {line}: {problem}")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"text": "secret"}, "has no member label: name it with --label-field"),
        ({"text": "secret", "label": ["delivery"]}, "its label is not one name"),
        ({"text": "secret", "label": 7}, "its label is not one name"),
    ],
)
def test_a_bad_object_is_named_by_its_line(run: Any, tmp_path: Path, value: dict[str, Any], problem: str) -> None:
    path = written(tmp_path / "rows.jsonl", json.dumps(value))
    assert error_of(run(evaluate, path)).startswith(f"{path}, line 1: {problem}")


def test_a_label_that_is_a_number_among_several_is_refused(run: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", '{"text": "secret", "label": ["delivery", 7]}')
    labels = written(tmp_path / "multi.yaml", MULTI)
    assert "neither a list of names nor names in one string" in error_of(run(evaluate, path, labels=labels))


def test_wrong_usage_is_said(run: Any, tmp_path: Path) -> None:
    rows, nowhere = csv_of(tmp_path / "rows.csv"), tmp_path / "no" / "file"
    assert "cannot be read" in error_of(run(evaluate, nowhere), UsageError)
    assert "there is no text in it" in error_of(run(evaluate, written(tmp_path / "empty.csv", "text,label\n")))
    assert "name one with --html" in error_of(run(evaluate, rows, "--show-texts", "3"), UsageError)
    assert "give one kind" in error_of(run(evaluate, rows, "--text-field", "t", "--label-column", "l"), UsageError)
    for option in ("--html", "--png"):
        assert "cannot be written" in error_of(run(evaluate, rows, option, nowhere), UsageError)
    assert "is a directory" in error_of(run(calibrate, rows, "--write", labels=tmp_path), UsageError)


def test_what_is_not_installed_is_said_before_anything_long_begins(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = csv_of(tmp_path / "rows.csv")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    for command in (evaluate, calibrate):
        assert "pip install '.[report]'" in error_of(run(command, rows, "--png", tmp_path / "a.png"), UsageError)
    assert "pip install '.[report]'" in error_of(run(calibrate, rows, "--write"), UsageError)
    assert "accuracy" in done(run(evaluate, rows, "--html", tmp_path / "a.html"))


# calibrate ------------------------------------------------------------------------------------------------------------

COMMENTED = """\
# Who reads this?
name: support
version: 3      # counted up
labels:
  - name: delivery   # the parcel
    threshold: 0.2
  # money
  - refund           # back
  - 'password'
"""


def noisy(path: Path, count: int = 120) -> Path:
    """Labelled texts of which every fourth has another label than its words say."""
    words, names = ("parcel", "money", "login"), ("delivery", "refund", "password")
    return csv_of(path, [(f"{words[n % 3]} secret {n}", names[(n + (n % 4 == 0)) % 3]) for n in range(count)])


def test_a_temperature_and_a_threshold_are_proposed(run: Any, tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.yaml", COMMENTED)
    picture = tmp_path / "reliability.png"
    shown = done(run(calibrate, noisy(tmp_path / "rows.csv"), "--accuracy", "0.7", "--png", picture, labels=labels))
    assert labels.read_text(encoding="utf-8") == COMMENTED
    before, after = (
        float(re.search(rf"^{title}.* ([\d.]+)$", shown, re.MULTILINE)[1])  # type: ignore[index]
        for title in ("now", "proposed, measured on texts it was not fitted on")
    )
    assert after < 0.15 < before
    assert re.search(r"^temperature: [\d.]+$", shown, re.MULTILINE)
    assert re.search(r"^threshold: 0$", shown, re.MULTILINE)
    assert re.search(r"0\.99 +none", shown)
    assert "share that is right" in shown
    assert "keep it" in shown
    assert "secret" not in shown
    with Image.open(picture) as image:
        assert image.format == "PNG"


def test_it_is_written_back_with_comments_and_order(run: Any, tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.yaml", COMMENTED)
    labels.chmod(0o640)
    shown = done(run(calibrate, noisy(tmp_path / "rows.csv"), "--accuracy", "0.7", "--write", labels=labels))
    assert "now support@4" in shown
    fitted = choose(load_label_sets(labels), None)
    assert fitted.temperature > 1
    text = labels.read_text(encoding="utf-8")
    expected = COMMENTED.replace(
        "version: 3      # counted up\n",
        f"version: 4      # counted up\ntemperature: {fitted.temperature:g}\nthreshold: 0.0\n",
    )
    assert text == expected
    assert labels.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_calibrating_again_changes_nothing_more(run: Any, tmp_path: Path) -> None:
    """Given a set with a temperature, when it is calibrated with the same texts, the same temperature is proposed."""
    labels, rows = written(tmp_path / "labels.yaml", COMMENTED), noisy(tmp_path / "rows.csv")
    done(run(calibrate, rows, "--write", "--keep-thresholds", labels=labels))
    first = choose(load_label_sets(labels), None)
    shown = done(run(calibrate, rows, "--write", "--keep-thresholds", labels=labels))
    again = choose(load_label_sets(labels), None)
    assert (again.temperature, again.version) == (first.temperature, 5)
    assert (again.threshold, again.thresholds) == (None, first.thresholds)
    assert "to have right" not in shown


def test_in_multi_mode_each_label_gets_its_threshold(run: Any, tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.yaml", COMMENTED.replace("labels:", "mode: multi   # several\nlabels:", 1))
    rows = noisy(tmp_path / "rows.csv")
    shown = done(run(calibrate, rows, "--write", labels=labels))
    fitted = choose(load_label_sets(labels), None)
    assert all(label.threshold is not None for label in fitted.labels)
    assert "F1 on texts not fitted on" in shown
    text = labels.read_text(encoding="utf-8")
    for comment in ("# Who reads this?", "# counted up", "# several", "# the parcel", "  # money\n", "# back"):
        assert comment in text
    assert "- name: refund\n    threshold: " in text


def test_a_set_of_another_style_keeps_it(run: Any, tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.yaml", LABELS)
    done(run(calibrate, noisy(tmp_path / "rows.csv"), "--write", "--keep-thresholds", labels=labels))
    text = labels.read_text(encoding="utf-8")
    assert re.fullmatch(
        r"\{name: support, version: 4, temperature: [\d.]+, labels: \[delivery, refund, password\]\}\n", text
    )


def test_the_file_s_examples_are_left_out(run: Any, tmp_path: Path) -> None:
    taught = LABELS.replace("[delivery", "[{name: delivery, examples: [parcel secret 0]}, {name: late, examples: [hi]}")
    labels = written(tmp_path / "labels.yaml", taught)
    shown = done(run(calibrate, noisy(tmp_path / "rows.csv"), labels=labels))
    assert "119 texts; 1 examples of the label set left out" in shown


def test_no_more_texts_than_asked_are_used_and_always_the_same(run: Any, tmp_path: Path) -> None:
    shown = [done(run(calibrate, noisy(tmp_path / "rows.csv"), "--texts", "50")) for _ in range(2)]
    assert "50 texts" in shown[0]
    assert shown[0] == shown[1]


def test_too_few_texts_are_refused(run: Any, tmp_path: Path) -> None:
    assert "it takes 20 labelled texts" in error_of(run(calibrate, csv_of(tmp_path / "rows.csv")))


def test_texts_that_are_all_right_show_that_they_are_too_easy(run: Any, tmp_path: Path) -> None:
    rows = [("parcel", "delivery"), ("money", "refund"), ("login", "password")] * 10
    shown = done(run(calibrate, csv_of(tmp_path / "rows.csv", rows)))
    assert "too few or too easy" in shown


def test_a_text_that_makes_the_model_fail_ends_it(run: Any, tmp_path: Path) -> None:
    rows = [*ROWS * 3, (f"{tiny_bundle.BOOM} secret", "delivery")]
    assert "the model fails on this text" in error_of(run(calibrate, csv_of(tmp_path / "rows.csv", rows)))


def test_the_labels_of_a_written_set_are_those_of_before(run: Any, tmp_path: Path) -> None:
    """Names that need quotes, descriptions over several lines and examples come through."""
    odd = """\
name: odd
version: 1
labels:
- name: "yes"
  description: >
    folded over
    two lines
  examples:
  - |
    two lines
  - "tab\\there"
- {name: 'no', examples: ["x: y"], threshold: 0.5}
- name: 退款
"""
    labels = written(tmp_path / "labels.yaml", odd)
    before = choose(load_label_sets(labels), None)
    rows = csv_of(tmp_path / "rows.csv", [("parcel", "yes"), ("money", "no"), ("login", "退款"), ("hi", "no")] * 6)
    done(run(calibrate, rows, "--write", labels=labels))
    after = choose(load_label_sets(labels), None)
    assert after.labels == before.labels
    assert after.temperature != before.temperature
    assert isinstance(after, LabelSet)


# A worker's model, cascades included ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entailment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_entailment.build(tmp_path_factory.mktemp("entailment"))


# Similarity reads descriptions, and entailment does not: they disagree about parcels, and agree about the rest.
DISAGREE = """\
name: disagree
version: 1
temperature: {temperature}
labels:
  - {{name: password, description: delivery courier}}
  - {{name: delivery, description: refund}}
  - email
"""


def by_config(command: Any, *arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def cascade_config(directory: Path, model: Path, entailment: Path, margin: float) -> Path:
    cascade = {"path": str(entailment), "margin": margin}
    return write_config(
        directory, "localhost:1", ("in", "out", "aside"), model={"path": str(model), "cascade": cascade}
    )


def test_a_cascade_is_evaluated_as_a_worker_would_run_it(tmp_path: Path, model: Path, entailment: Path) -> None:
    """Given a margin that parcels are within and the rest is not, then the figures are of both models, each by itself;
    the share decided by each, and how right it is, are those of the worker's own results."""
    labels = written(tmp_path / "disagree.yaml", DISAGREE.format(temperature=1))
    rows = [("parcel", "delivery"), ("courier", "delivery"), ("email", "email"), ("login", "password")]
    path, report = csv_of(tmp_path / "rows.csv", rows), tmp_path / "report.html"
    config = cascade_config(tmp_path, model, entailment, margin=0.6)
    found = evaluated(by_config(evaluate, path, "--labels", labels, "--config", config, "--json", "--html", report))
    classifier = Classifier(open_configured(load_settings(config), lambda _: None))
    label_set = choose(load_label_sets(labels), None)
    results = classifier.classify([Request(text, label_set) for text, _ in rows]).results
    expected: dict[str, list[bool]] = {"similarity": [], "entailment": []}
    for result, (_, gold) in zip(results, rows, strict=True):
        assert isinstance(result, Classification)
        assert result.decided_by is not None
        expected[result.decided_by].append(result.label == gold)
    assert all(expected.values())
    assert found["decided_by"] == [
        {"task": task, "texts": len(right), "share": len(right) / 4, "accuracy": sum(right) / len(right)}
        for task, right in expected.items()
    ]
    assert found["model"] == classifier.model
    assert found["accuracy"] == sum(map(sum, expected.values())) / 4
    shown = done(by_config(evaluate, path, "--labels", labels, "--config", config))
    for task, right in expected.items():
        row = f"decided by {task}", f"{len(right) / 4:.3f}, {sum(right) / len(right):.3f} of it right"
        assert re.search(" +".join(map(re.escape, row)), shown)
        assert "</td><td>".join(row) in report.read_text(encoding="utf-8")


def test_a_cascade_against_a_model_alone(tmp_path: Path, model: Path, entailment: Path) -> None:
    labels = written(tmp_path / "disagree.yaml", DISAGREE.format(temperature=1))
    path = csv_of(tmp_path / "rows.csv", [("parcel", "delivery"), ("courier", "delivery")])
    config = cascade_config(tmp_path, model, entailment, margin=1)
    result = by_config(evaluate, path, "--labels", labels, "--config", config, "--against", model, "--json")
    first, second = json.loads(done(result))["evaluations"]
    assert [each["share"] for each in first["decided_by"]] == [0, 1]
    assert first["decided_by"][0]["accuracy"] is None
    assert second["decided_by"] == []
    assert (first["accuracy"], second["accuracy"]) == (1, 0)
    shown = done(by_config(evaluate, path, "--labels", labels, "--config", config, "--against", model))
    assert re.search(r"decided by similarity +0\.000, - of it right +-$", shown, re.MULTILINE)


def test_a_text_that_fails_is_in_no_models_share(tmp_path: Path, model: Path, entailment: Path) -> None:
    labels = written(tmp_path / "disagree.yaml", DISAGREE.format(temperature=1))
    path = csv_of(tmp_path / "rows.csv", [(tiny_bundle.BOOM, "delivery"), ("parcel", "delivery")])
    config = cascade_config(tmp_path, model, entailment, margin=1)
    result = by_config(evaluate, path, "--labels", labels, "--config", config, "--json")
    (found,) = json.loads(result.stdout)["evaluations"]
    assert [(each["texts"], each["share"]) for each in found["decided_by"]] == [(0, 0), (1, 1)]


def disagreeing(path: Path) -> Path:
    """Labelled texts of which some are in doubt at some temperatures; every seventh has another label."""
    words = ("parcel login", "email", "login email", "courier", "parcel", "login")
    names = ("delivery", "email", "password", "delivery", "delivery", "password")
    return csv_of(path, [(f"{words[n % 6]} secret {n}", names[(n + (n % 7 == 0)) % 6]) for n in range(84)])


def test_a_cascade_is_calibrated_for_the_texts_that_the_proposal_puts_in_doubt(
    tmp_path: Path, model: Path, entailment: Path
) -> None:
    """Given a set whose temperature hides all doubt, when a cascade is calibrated, then the proposal is that of scores
    which the cascade gives with the proposal in place: to calibrate again from there proposes the same."""
    labels = written(tmp_path / "disagree.yaml", DISAGREE.format(temperature=0.3))
    path, config = disagreeing(tmp_path / "rows.csv"), cascade_config(tmp_path, model, entailment, margin=0.2)
    command = (calibrate, path, "--labels", labels, "--config", config, "--keep-thresholds", "--write")
    temperatures, losses = [], []
    for _ in range(2):
        shown = done(by_config(*command))
        assert "still changes which model decides" not in shown
        temperatures.append(choose(load_label_sets(labels), None).temperature)
        table = re.search(r"^now +\S+ +(\S+) .*\nproposed, measured on \D+ \S+ +(\S+) ", shown, re.MULTILINE)
        assert table
        losses.append((float(table[1]), float(table[2])))
    assert temperatures[1] == pytest.approx(temperatures[0], rel=0.02)
    assert losses[0][1] < losses[0][0]
    assert losses[1][0] == pytest.approx(losses[0][1], rel=0.1)
    one = done(by_config(calibrate, path, "--labels", labels, "--model", model, "--keep-thresholds"))
    alone = re.search(r"^temperature: (\S+)$", one, re.MULTILINE)
    assert alone
    assert float(alone[1]) != pytest.approx(temperatures[0], rel=0.02)


def test_a_temperature_that_takes_back_its_own_reason_is_said_to(tmp_path: Path, model: Path, entailment: Path) -> None:
    """Given a margin with which one temperature makes texts doubtful, and what is fitted then makes them sure again."""
    labels = written(tmp_path / "disagree.yaml", DISAGREE.format(temperature=0.3))
    path, config = disagreeing(tmp_path / "rows.csv"), cascade_config(tmp_path, model, entailment, margin=0.4)
    shown = done(by_config(calibrate, path, "--labels", labels, "--config", config, "--keep-thresholds"))
    assert "what is proposed still changes which model decides" in shown


def test_a_cascade_is_calibrated_in_multi_mode(tmp_path: Path, model: Path, entailment: Path) -> None:
    """Given a margin that puts every text to both models, then a second round keeps the thresholds of the first."""
    labels = written(tmp_path / "both.yaml", DISAGREE.format(temperature=1) + "mode: multi\n")
    path, config = disagreeing(tmp_path / "rows.csv"), cascade_config(tmp_path, model, entailment, margin=1)
    thresholds = []
    for _ in range(2):
        shown = done(by_config(calibrate, path, "--labels", labels, "--config", config, "--write"))
        assert "still changes which model decides" not in shown
        thresholds.append([label.threshold for label in choose(load_label_sets(labels), None).labels])
    assert None not in thresholds[0]
    assert thresholds[1] == pytest.approx(thresholds[0], abs=0.02)


def test_a_model_is_named_once(tmp_path: Path, model: Path) -> None:
    labels, rows = written(tmp_path / "support.yaml", LABELS), csv_of(tmp_path / "rows.csv")
    config = write_config(tmp_path, "localhost:1", ("in", "out", "aside"))
    for command in (evaluate, calibrate):
        result = by_config(command, rows, "--labels", labels, "--config", config, "--model", model)
        assert error_of(result, UsageError) == "--model and --config both name a model: give one of them"
        result = by_config(command, rows, "--labels", labels, "--config", tmp_path / "none.yaml")
        assert "cannot be read" in error_of(result, SettingsError)
