"""The README's table of settings is the schema's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_classifier.errors import UsageError
from stream_classifier.settings_file import setting_names
from stream_classifier.settings_reference import BEGIN, END, main, table, updated

README = Path(__file__).parents[1] / "README.md"


def test_the_table_in_the_readme_is_current() -> None:
    document = README.read_text(encoding="utf-8")
    assert updated(document) == document, "run: python -m stream_classifier.settings_reference README.md"


def test_every_setting_has_a_row_that_says_something() -> None:
    rows = [line.strip("| ").split(" | ") for line in table().splitlines()[2:]]
    sections = {name.partition(".")[0] for name in setting_names() if "." in name}
    assert [name.strip("`") for name, *_ in rows] == [name for name in setting_names() if name not in sections]
    for name, value, default, description in rows:
        assert value, name
        assert default, name
        assert re.fullmatch(r".{10,}\.", description), name


@pytest.mark.parametrize(
    "row",
    [
        "| `kafka.bootstrap_servers` | text | **required** |",
        "| `kafka.group_protocol` | `classic`, `consumer` | `classic` |",
        "| `kafka.commit_interval_ms` | whole number from 10 to 60,000 | `null` |",
        "| `delivery` | `at_least_once`, `exactly_once` | `at_least_once` |",
        "| `input.topics` | list of texts | **required** |",
        "| `output.overwrite` | `true`, `false` | `false` |",
        "| `dead_letter.stop_above` | number above 0 to 1 | `0.5` |",
        "| `model.path` | path | `null` |",
        "| `kafka.client` | properties | `{}` |",
    ],
)
def test_a_row_says_what_a_setting_may_be_and_its_default(row: str) -> None:
    assert row in table()


def test_the_table_is_written_between_the_marks(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    main([str(file)])
    assert file.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{table()}\n{END}\nafter\n"


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_document_without_its_two_marks_is_refused(document: str) -> None:
    with pytest.raises(UsageError, match="once each"):
        updated(document)


def test_without_a_file_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == table() + "\n"
