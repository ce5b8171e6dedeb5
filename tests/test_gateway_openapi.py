"""The OpenAPI document is true: requests that are made up from it get what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import httpx
import orjson
import pytest
from running_gateway import PATIENCE, RunningGateway, tiny

from stream_classifier.events.decode import is_blank
from stream_classifier.gateway.asked import not_blank
from stream_classifier.gateway.problems import Code, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["tiny"]  # a fixture

STREAM = "/classify/stream"
LINES = "application/x-ndjson"


@pytest.fixture(scope="module")
def gateway(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = RunningGateway(tmp_path_factory.mktemp("gateway"), bundle)
    yield running
    running.stop()
    assert running.ended() is None


@pytest.fixture(scope="module")
def document(gateway: RunningGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/openapi.json").json()
    return found


def made_up(gateway: RunningGateway, directory: Path, *options: str) -> None:
    """Have schemathesis make up requests from the document, always the same ones, and judge the answers."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.address}/openapi.json", "--no-color"]
    command += ["--max-examples", "15", "--generation-deterministic", *options]
    variables = os.environ | {"SCHEMATHESIS_HOOKS": "ndjson_serializer", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE, env=variables, cwd=directory
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_requests_that_are_as_it_says_are_taken_and_others_refused_as_it_says(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    made_up(gateway, tmp_path, "--exclude-path", STREAM)
    assert gateway.metric("gateway_requests_total", route="/classify", status="200") > 15
    assert gateway.metric("gateway_requests_total", route="/classify", status="422") > 15
    assert gateway.metric("gateway_requests_total", status="500") == 0


def test_whatever_a_stream_holds_each_of_its_lines_gets_an_answer(gateway: RunningGateway, tmp_path: Path) -> None:
    """Any text is a stream as far as the document goes: so there are no requests that it does not allow."""
    made_up(gateway, tmp_path, "--include-path", STREAM, "--mode", "positive")
    assert gateway.metric("gateway_requests_total", route=STREAM, status="200") > 10
    assert gateway.metric("gateway_requests_total", status="500") == 0


def test_every_path_and_every_answer_is_described_with_an_example(document: dict[str, Any]) -> None:
    assert sorted(document["paths"]) == ["/classify", STREAM, "/healthz", "/label-sets", "/metrics", "/readyz"]
    for path, methods in document["paths"].items():
        for described in methods.values():
            assert described["summary"], path
            assert described["description"], path
            for status, answer in described["responses"].items():
                assert answer["description"], (path, status)
    for name in ("ClassifyAnswer", "ErrorAnswer", "LabelSetsAnswer"):
        assert "example" in document["components"]["schemas"][name]
    assert set(document["paths"]["/classify"]["post"]["responses"]) == {
        *("200", "400", "401", "408", "413", "415", "422", "429", "503", "504")
    }


def test_its_examples_are_answered_as_its_example_is(gateway: RunningGateway, document: dict[str, Any]) -> None:
    examples = document["paths"]["/classify"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) == 3
    members = set(document["components"]["schemas"]["ClassifyAnswer"]["example"])
    for example in examples.values():
        assert set(gateway.post(example["value"]).json()) == members
    line = document["paths"][STREAM]["post"]["requestBody"]["content"][LINES]["example"]
    answer = httpx.post(gateway.address + STREAM, content=line, headers={"Content-Type": LINES}, timeout=PATIENCE)
    assert set(answer.json()) == members


def test_its_pattern_finds_something_in_what_is_not_blank_and_in_nothing_else() -> None:
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    pattern = re.compile(not_blank())
    assert [letter for letter in letters if is_blank(letter) == bool(pattern.search(letter))] == []


# What docs/gateway.md says --------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "docs" / "gateway.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_is_labelled_as_it_says(gateway: RunningGateway) -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'", PAGE)
    example = orjson.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    told = gateway.post(orjson.loads(body)).json()
    assert list(told) == list(example)
    assert (told["label"], told["label_set"]) == (example["label"], example["label_set"])


def test_the_page_explains_every_code_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PAGE, re.MULTILINE)
    assert [code for code, _ in rows] == list(get_args(Code))
    foreseen = {code: str(Problem(code).status) for code in get_args(Code) if Problem(code).message}
    assert foreseen.items() <= dict(rows).items()
