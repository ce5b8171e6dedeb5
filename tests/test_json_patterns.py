"""The patterns of JSON schemas: they match what Python's do, in a time that none of them can draw out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.registry.json_patterns import BoundedPatterns, unreadable

SAME = [
    "^[ab]+-?1*$",
    "a|b",
    "",
    "^$",
    "[^a]",
    "(ab)+",
    "^(a|ab)(c|bcd)?$",
    "a{2,3}",
    "^(?!a)b",
    "(?=.*a)(?=.*b)",
    "(a)\\1",
    "é",
    "^.$",
    "\\bab\\b",
    "^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$",
    "^(-?(?:[1-9][0-9]*)?[0-9]{4})-(1[0-2]|0[1-9])$",
]


@given(text=st.text("abcd@. -1é", max_size=8))
@settings(max_examples=300, deadline=None)
def test_what_matches_is_what_matches_in_python(text: str) -> None:
    for pattern in SAME:
        assert BoundedPatterns.search(pattern, text) == (re.search(pattern, text) is not None), pattern


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "(?P<name>a)", "\\Z"])
def test_what_is_no_pattern_of_ecma_is_an_error(pattern: str) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        BoundedPatterns.search(pattern, "a")


def test_patterns_that_nobody_can_read_are_found_wherever_they_stand() -> None:
    bad = {"pattern": "("}
    parts = [{"properties": {"a": bad}}, {"allOf": [bad]}, {"patternProperties": {"(": {}}}, {"$defs": {"a": bad}}]
    for schema in (bad, *parts):
        assert list(unreadable(schema)) == ["("]
    values = {"const": bad, "default": bad, "enum": [bad], "examples": [bad]}
    assert not list(unreadable(values | {"properties": {"pattern": {"pattern": "a"}, "patternProperties": {}}}))


def test_a_long_text_may_be_looked_around_in() -> None:
    """A pattern of that kind takes a step or two for each character; the text is as long as one may be by default."""
    assert BoundedPatterns.search("^((?!bad).)*$", "abc " * 25_000)
    assert not BoundedPatterns.search("^((?!bad).)*$", "abc " * 25_000 + "bad")


ENDLESS = """
import json, struct
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from schema_case import Case, refusal
from schema_registry import SchemaRegistry

LONG = "a" * 60 + "!"
TEXT = {"text": {}}
with SchemaRegistry() as registry, SchemaRegistryClient({"url": registry.url}) as client:
    case = Case(registry.url, "json_schema")
    for pattern in ("^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^([a-z]+)*$", "^(?=a)(a|a)*$", "^(a*)*(a)\\\\2$"):
        part = {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": pattern}
        client.register_schema(case.input + pattern, Schema(json.dumps(part), "JSON"))
        reference = [SchemaReference("part.json", case.input + pattern, 1)]
        keys = {"properties": {"text": {}}, "patternProperties": {pattern: {}}}
        older = {"$schema": "https://json-schema.org/draft/2019-09/schema"}
        for name, schema in (
            ("text", {"properties": {"text": {"pattern": pattern}}}),
            ("text", {"properties": {"text": part}}),
            ("text", {"properties": {"text": {"$ref": "part.json"}}}),
            (LONG, {"propertyNames": {"anyOf": [{"const": "text"}, {"pattern": pattern}]}}),
            (LONG, keys | {"additionalProperties": False}),
            (LONG, keys | {"unevaluatedProperties": False}),
            (LONG, keys | older | {"unevaluatedProperties": False}),
        ):
            event = {"text": "b"} | {name: LONG}
            refers = reference if "part.json" in json.dumps(schema) else []
            number = client.register_schema(case.input + "-value", Schema(json.dumps(schema), "JSON", refers))
            value = struct.pack(">bI", 0, number) + json.dumps(event).encode()
            print(refusal(case, value), flush=True)
    case.form.close()
"""


def test_no_pattern_holds_up_the_worker() -> None:
    """Given patterns that backtrack for longer than anybody waits, wherever they stand, then events are refused."""
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["schema_mismatch"] * 42, done.stderr
    assert done.returncode == 0
