"""The workflows of .github: valid as actionlint sees them, and doing what they are there for."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from manifests import ROOT, required_tool

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = next(file for file in FILES if file.name == "release.yml")


def complaints(directory: Path) -> str:
    """What actionlint says of a repository's workflows."""
    linter = [required_tool("actionlint"), "-shellcheck=", "-pyflakes=", "-no-color", "-oneline"]
    workflows = sorted(str(file) for file in (directory / ".github" / "workflows").glob("*.yml"))
    done = subprocess.run([*linter, *workflows], cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    assert not done.stderr, done.stderr
    return done.stdout


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
    assert isinstance(found, dict)
    return found


def test_the_workflows_are_valid() -> None:
    assert complaints(ROOT) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("needs: publish", "needs: published", "published"),
        ("runs-on: ubuntu-latest", "run-on: ubuntu-latest", "run-on"),
        ("github.ref_type == 'tag' &&", "github.reftype == 'tag' &&", "reftype"),
        ("name: dist\n          path: dist/", "named: dist\n          path: dist/", "named"),
        ("id-token: write", "id-token: writes", "writes"),
    ],
)
def test_a_workflow_that_is_not_quite_right_is_found_out(
    right: str, wrong: str, complaint: str, tmp_path: Path
) -> None:
    directory = tmp_path / ".github" / "workflows"
    directory.mkdir(parents=True)
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        if file == RELEASE:
            assert right in text
            text = text.replace(right, wrong, 1)
        (directory / file.name).write_text(text, encoding="utf-8")
    assert complaint in complaints(tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_actions_are_pinned_by_version(file: Path) -> None:
    used = re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8"))
    assert used
    assert all(re.fullmatch(r"\./\S+|\S+@v\d+(\.\d+\.\d+)?", each) for each in used), used


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_workflow_may_read_and_no_more_unless_a_job_says_so(file: Path) -> None:
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}


def test_every_change_passes_the_gate() -> None:
    steps = [step.get("run") for job in jobs(RELEASE.with_name("ci.yml")).values() for step in job.get("steps", ())]
    assert "bash .ci/run" in steps


def test_nothing_is_published_that_was_not_tested_and_before_it_was_switched_on() -> None:
    release = jobs(RELEASE)
    assert release["gate"]["uses"] == "./.github/workflows/ci.yml"
    assert set(release["publish"]["needs"]) == {"gate", "build", "test"}
    assert release["publish"]["if"] == "github.ref_type == 'tag' && vars.RELEASE == 'on'"
    assert release["release"]["needs"] == "publish"
    allowed = {name for name, job in release.items() if "write" in job.get("permissions", {}).values()}
    assert allowed == {"publish", "release"}
