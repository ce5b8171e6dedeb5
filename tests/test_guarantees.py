"""docs/guarantees.md names tests: each is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_is_there() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    files = set(re.findall(r"(test_\w+\.py)", PAGE))
    names = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(files) > 5
    assert len(names) > 10
    assert files <= sources.keys()
    assert not [name for name in names if not any(f"def {name}(" in text for text in sources.values())]


def test_every_make_target_that_the_page_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not [target for target in re.findall(r"`make (\w+)", PAGE) if f"\n{target}:" not in makefile]
