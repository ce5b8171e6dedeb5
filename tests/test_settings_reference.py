"""The table of settings is the schema's; that docs/configuration.md has it as it is now, `test_docs.py` looks at."""

from __future__ import annotations

import re

import pytest

from stream_classifier.settings_file import setting_names
from stream_classifier.settings_reference import table


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
