"""CONTRIBUTING.md and docs/tracing.md name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_classifier.settings_file import setting_names

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
TRACING = ROOT / "docs" / "tracing.md"


@pytest.mark.parametrize("page", [CONTRIBUTING, TRACING], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8").replace("\n", ""))
    assert links
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_tests_files_and_targets_that_it_names_are_there() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    tests, files = set(re.findall(r"`(test_\w+)`", text)), set(re.findall(r"`([a-z_/]+\.py)`", text))
    assert len(tests) > 5
    assert len(files) > 20
    assert not [name for name in tests if f"def {name}(" not in sources]
    places = ("", "stream_classifier", "export/stream_classifier_export")
    assert not [name for name in files if not any((ROOT / place / name).is_file() for place in places)]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"make ([a-z][a-z-]*)", text.partition("## The rooms")[0]))
    assert {"test", "lint", "chaos"} <= targets
    assert not [target for target in targets if f"\n{target}:" not in makefile]


def test_settings_that_tracing_names_are_there() -> None:
    named = set(re.findall(r"`((?:observability|shutdown)\.[a-z_]+)`", TRACING.read_text(encoding="utf-8")))
    assert named
    assert named <= set(setting_names())
