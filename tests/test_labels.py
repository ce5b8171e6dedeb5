"""Label sets from lists and files; each way to write one wrong names the file and what is wrong."""

import json
import re
from pathlib import Path

import pytest

from stream_classifier.classify.labels import (
    MAX_EXAMPLE_CHARACTERS,
    MAX_EXAMPLES,
    MAX_EXAMPLES_OF_SET,
    MAX_LABELS,
    Label,
    LabelSet,
    choose,
    load_label_sets,
)
from stream_classifier.errors import SettingsError, UsageError

SUPPORT = """
name: support
version: 3
template: "about {}"
threshold: 0.2
labels:
  - name: delivery
    description: the parcel arrives late
  - name: 退款
    template: "顾客要{}"
    threshold: 0.5
  - refund
"""


def written(directory: Path, text: str, name: str = "set.yaml") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def error_of(directory: Path, text: str) -> str:
    with pytest.raises(SettingsError) as error:
        load_label_sets(written(directory, text))
    message = str(error.value)
    assert message.startswith(str(directory / "set.yaml"))
    assert "\n" not in message
    return message.removeprefix(str(directory / "set.yaml"))


def test_a_file_says_everything_about_a_label_set(tmp_path: Path) -> None:
    support = load_label_sets(written(tmp_path, SUPPORT))["support"]
    assert support.identity == "support@3"
    assert support.mode == "single"
    assert support.names == ("delivery", "退款", "refund")
    assert [label.reads for label in support.labels] == [
        "about delivery: the parcel arrives late",
        "顾客要退款",
        "about refund",
    ]
    assert support.thresholds == (0.2, 0.5, 0.2)


def test_every_file_of_a_directory_is_a_set(tmp_path: Path) -> None:
    written(tmp_path, "{name: a, version: 1, labels: [x, y]}", "one.yaml")
    written(tmp_path, "{name: b, version: 1, labels: [x, y]}", "two.yml")
    written(tmp_path, "not a label set", "notes.txt")
    assert sorted(load_label_sets(tmp_path)) == ["a", "b"]


def test_two_files_with_one_name_are_refused_and_both_named(tmp_path: Path) -> None:
    written(tmp_path, "{name: a, version: 1, labels: [x, y]}", "one.yaml")
    written(tmp_path, "{name: a, version: 2, labels: [x, y]}", "two.yaml")
    with pytest.raises(SettingsError, match=r"two\.yaml: one\.yaml holds a set named 'a'"):
        load_label_sets(tmp_path)


def test_a_directory_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no label set"):
        load_label_sets(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.yaml: cannot be read \(No such file"):
        load_label_sets(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: s\nversion: 1\nlabels: [a, b", ", line 3: is not YAML"),
        ("a: \x00", ": is not YAML"),
        ("!!python/object/apply:os.getcwd []", ", line 1: is not YAML"),
        ("[" * 10_000, ": is not YAML"),
        ("", ": holds no label set; it needs name, version and labels"),
        ("- a\n- b", ": holds no label set; it needs name, version and labels"),
        ("{name: s, labels: [a, b]}", ": version is required"),
        ("{name: s, version: 0, labels: [a, b]}", ": version: Input should be greater than or equal to 1"),
        ("{name: s, version: 1, labels: []}", ": labels: it takes at least 2 to choose between"),
        ("{name: s, version: 1, labels: [a]}", ": labels: it takes at least 2 to choose between"),
        ("{name: s, version: 1, labels: [a, b, a]}", ": labels: 'a' is there twice"),
        ("{name: s, version: 1, labels: [a, ' ']}", ": labels: number 2 is blank"),
        ("{name: s, version: 1, labels: [a, no]}", ": labels[1].name is not text; put it in quotes"),
        ("{name: s, version: 1, labels: [404, b]}", ": labels[0].name is not text; put it in quotes"),
        ("{name: s, version: 1, labels: [a, {descripton: x}]}", "(did you mean description?)"),
        ("{name: s, version: 1, label: [a, b]}", "; label is not a key of a label set (did you mean labels?)"),
        ("{name: s, version: 1, labels: [{name: a, example: [x]}, b]}", ": labels[0].example is not a key"),
        ("{name: s, version: 1, labels: [{name: a, examples: [x]}, b]}", ": only one label has examples"),
        ("{name: s, version: 1, labels: [{name: a, examples: x}, b]}", ": labels[0].examples: Input should be"),
        ("{name: s, version: 1, labels: [{name: a, examples: [x, 7]}, b]}", ": labels[0].examples[1] is not text"),
        ("{name: s, version: 1, labels: [{name: a, examples: [x, ' \u200b']}, b]}", "[0].examples: number 2 is blank"),
        ("{name: s, version: 1, labels: [{name: a, examples: [x, y, x]}, b]}", ": number 3 is the same as number 1"),
        (
            "{name: s, version: 1, labels: [{name: a, examples: [x]}, {name: b, examples: [y, x]}]}",
            ": labels: example 2 of 'b' is an example of 'a', too",
        ),
        ("{name: s, version: 1, labels: [a, b], temperature: 0}", ": temperature: Input should be greater than 0"),
        ("{name: s, version: 1, labels: [a, b], temperature: .inf}", ": temperature: Input should be less than or"),
        ("{name: s, version: 1, labels: [a, b], mode: many}", ": mode: Input should be 'single' or 'multi'"),
        ("{name: s, version: 1, labels: [a, b], threshold: 2}", ": threshold: Input should be less than or equal to 1"),
        ("{name: s, version: 1, labels: [a, {name: b, threshold: .nan}]}", ": labels[1].threshold:"),
        (
            "{name: s, version: 1, labels: [a, b], template: of}",
            ": template: the template 'of' must hold {} once",
        ),
        ("{name: s, version: 1, labels: [a, b], template: '{} {}'}", ": template: the template"),
        ("{name: s, version: 1, labels: [a, b], template: '{0}'}", ": template: the template"),
        ("{name: s, version: 1, labels: [a, b], template: '{'}", ": template: the template"),
        ("{name: a@b, version: 1, labels: [a, b]}", ": name: a set's name"),
        ("{name: adhoc, version: 1, labels: [a, b]}", ": name: a set's name"),
        ("{name: s, version: 1, labels: [a, b], template: '{0.__class__}'}", ": template: the template"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line_or_field(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in error_of(tmp_path, text)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    message = error_of(tmp_path, "{name: s, mod: single, labels: [a]}")
    for part in ("version is required", "mod is not a key of a label set (did you mean mode?)", "at least 2"):
        assert part in message


def test_more_labels_than_can_be_told_apart_are_refused(tmp_path: Path) -> None:
    names = ", ".join(f"n{number}" for number in range(MAX_LABELS + 1))
    assert f"labels: there may be {MAX_LABELS} at most" in error_of(
        tmp_path, f"{{name: s, version: 1, labels: [{names}]}}"
    )


def test_examples_are_bounded_in_number_and_length_and_never_shown(tmp_path: Path) -> None:
    def labels(*examples: list[str]) -> str:
        each = [{"name": f"n{number}", "examples": some} for number, some in enumerate(examples)]
        return json.dumps({"name": "s", "version": 1, "labels": each})

    of_one = [f"secret {number}" for number in range(MAX_EXAMPLES + 1)]
    message = error_of(tmp_path, labels(["x"], of_one))
    assert message == f": labels[1].examples: there may be {MAX_EXAMPLES} at most, and there are {MAX_EXAMPLES + 1}"
    message = error_of(tmp_path, labels(["x", "secret" * MAX_EXAMPLE_CHARACTERS], ["y"]))
    assert message == f": labels[0].examples: number 2 is longer than {MAX_EXAMPLE_CHARACTERS:,} characters"
    sets = MAX_EXAMPLES_OF_SET // MAX_EXAMPLES + 1
    every = [[f"secret {label} {number}" for number in range(MAX_EXAMPLES)] for label in range(sets)]
    assert error_of(tmp_path, labels(*every)).startswith(f": labels: there may be {MAX_EXAMPLES_OF_SET:,} examples")


def test_examples_and_a_temperature_are_read(tmp_path: Path) -> None:
    text = (
        "{name: s, version: 1, temperature: 0.9, labels: [{name: a, examples: [x y, ' z ']}, {name: b, examples: [u]}]}"
    )
    label_set = load_label_sets(written(tmp_path, text))["s"]
    assert label_set.temperature == 0.9
    assert label_set.has_examples
    assert [label.examples for label in label_set.labels] == [("x y", " z "), ("u",)]


def test_in_multi_mode_one_label_may_have_examples_alone(tmp_path: Path) -> None:
    text = "{name: s, version: 1, mode: multi, labels: [{name: a, examples: [x]}, b]}"
    assert load_label_sets(written(tmp_path, text))["s"].has_examples


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.yaml"
    path.write_bytes("name: 快递".encode("gb18030"))
    with pytest.raises(SettingsError, match="is not UTF-8"):
        load_label_sets(path)


def test_choosing_takes_the_named_set_or_the_only_one() -> None:
    a, b = LabelSet.adhoc(["x"]), LabelSet.adhoc(["y"])
    assert choose({"a": a}, None) is a
    assert choose({"a": a, "b": b}, "b") is b
    with pytest.raises(SettingsError, match=r"several label sets \(a, b\): say which with labels.use"):
        choose({"b": b, "a": a}, None)
    with pytest.raises(SettingsError, match=r"no label set 'c' \(labels.use\); there are: a"):
        choose({"a": a}, "c")


def test_a_list_of_names_makes_an_adhoc_set() -> None:
    adhoc = LabelSet.adhoc(["a", "b"], template="this is {}")
    assert adhoc.identity == "adhoc"
    assert [label.reads for label in adhoc.labels] == ["this is a", "this is b"]
    assert LabelSet.adhoc(["one"]).names == ("one",)


@pytest.mark.parametrize(
    ("names", "problem"),
    [([], "there are none"), (["a", "\u3000"], "number 2 is blank"), (["a", "a"], "'a' is there twice")],
)
def test_a_list_of_names_that_makes_no_set_is_refused(names: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        LabelSet.adhoc(names)


def test_thresholds_default_by_the_mode() -> None:
    assert LabelSet.adhoc(["a"]).thresholds == (0.0,)
    assert LabelSet.adhoc(["a"], mode="multi").thresholds == (0.5,)
    assert LabelSet.adhoc(["a"], mode="multi", threshold=0.3).thresholds == (0.3,)


def test_the_key_differs_as_soon_as_results_could() -> None:
    """Given one set, when anything differs that a result depends on, then its key does; else it does not."""
    base = LabelSet("s", 1, "single", None, (Label("a"), Label("b")))
    others = [
        LabelSet("t", 1, "single", None, (Label("a"), Label("b"))),
        LabelSet("s", 2, "single", None, (Label("a"), Label("b"))),
        LabelSet("s", 1, "multi", None, (Label("a"), Label("b"))),
        LabelSet("s", 1, "single", 0.1, (Label("a"), Label("b"))),
        LabelSet("s", 1, "single", None, (Label("b"), Label("a"))),
        LabelSet("s", 1, "single", None, (Label("a"), Label("b", description="c"))),
        LabelSet("s", 1, "single", None, (Label("a"), Label("b", template="{}!"))),
        LabelSet("s", 1, "single", None, (Label("a"), Label("b", threshold=0.1))),
    ]
    assert len({base.key, *(other.key for other in others)}) == 1 + len(others)
    assert LabelSet("s", 1, "single", None, (Label("a"), Label("b"))).key == base.key
    assert LabelSet("s", 1, "single", 0.0, (Label("a"), Label("b"))).key == base.key


def test_the_example_of_the_documentation_can_be_used(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "label-sets.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    label_set = load_label_sets(written(tmp_path, example))["support"]
    assert (label_set.identity, label_set.temperature) == ("support@4", 0.93)
    assert [len(label.examples) for label in label_set.labels] == [3, 2, 0]
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (Path(__file__).parents[1] / "docs" / link).is_file(), link
