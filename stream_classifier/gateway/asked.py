"""From the JSON of a request, or of a line of a stream, to a text and its labels, or to the reason why not."""

from __future__ import annotations

import sys
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from stream_classifier.classify.classifier import Request
from stream_classifier.classify.labels import LabelSet
from stream_classifier.events.decode import MAX_LABEL_CHARACTERS, MAX_OWN_LABELS, is_blank, problem_with_labels
from stream_classifier.gateway.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMBERS: Final = ("text", "labels", "label_set", "multi")


class Reader:
    """Reads what is asked for. Pure: the same bytes give the same answer.

    Args:
        label_sets: Those of the settings, by their names.
        default: The one for requests that name none and bring no labels; None: there is no such one.
        remembered: How many lists of labels are.
    """

    def __init__(self, label_sets: Mapping[str, LabelSet], default: LabelSet | None, remembered: int) -> None:
        self._default = default
        self._sets = {
            key: label_set for label_set in label_sets.values() for key in (label_set.name, label_set.identity)
        }
        self._adhoc = lru_cache(remembered)(_adhoc)

    def read(self, value: bytes) -> Request:
        """What a request asks for.

        Raises:
            Problem: It asks for nothing that can be given; says what to change, and quotes nothing.
        """
        try:
            asked = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Problem(
                "not_json",
                f"this is not JSON in UTF-8, at line {error.lineno}, column {error.colno}: send a JSON object",
                status=400,
            ) from None
        if not isinstance(asked, dict):
            raise Problem("not_an_object", f"this is JSON, but not an object: send one with {', '.join(_MEMBERS)}")
        if not asked.keys() <= set(_MEMBERS):
            raise Problem("member_unknown", f"there is a member that is not known: send {', '.join(_MEMBERS)} only")
        return Request(self._text(asked), self._label_set(asked))

    @property
    def schema(self) -> dict[str, Any]:
        """What requests look like, as JSON Schema."""
        text = {
            "type": "string",
            "minLength": 1,
            "pattern": not_blank(),
            "description": "Not blank. One that is longer than the model reads is labelled by its beginning.",
        }
        labels = {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_OWN_LABELS,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARACTERS, "pattern": not_blank()},
            "description": "The names to choose from, none of them blank.",
        }
        multi = {"type": "boolean", "default": False, "description": "Whether every label that fits is given."}
        label_set = {
            "type": "string",
            "enum": sorted(self._sets),
            "description": "One of /label-sets, by its name or by its name and version."
            + ("" if self._default is None else f" Without it and without labels: {self._default.name}."),
        }

        def member(title: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
            return {
                "type": "object",
                "title": title,
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            }

        named = ["text"] if self._default is not None else ["text", "label_set"]
        return {
            "oneOf": [
                member("Labels", {"text": text, "labels": labels, "multi": multi}, ["text", "labels"]),
                member("LabelSet", {"text": text, "label_set": label_set}, named),
            ]
        }

    def _text(self, asked: Mapping[str, Any]) -> str:
        if "text" not in asked:
            raise Problem("text_missing", "there is no member text: send the text to label in it")
        text = asked["text"]
        if not isinstance(text, str):
            raise Problem("text_not_a_string", "the member text is not a string: send the text to label in it")
        if is_blank(text):
            raise Problem("text_blank")
        return text

    def _label_set(self, asked: Mapping[str, Any]) -> LabelSet:
        multi = asked.get("multi", False)
        if not isinstance(multi, bool):
            raise Problem("multi_invalid", "multi is neither true nor false: send one of them, or leave it out")
        if "labels" in asked:
            labels = asked["labels"]
            if "label_set" in asked:
                raise Problem("labels_invalid", "there are labels and a label_set: send one of them")
            if problem := problem_with_labels(labels):
                raise Problem("labels_invalid", f"{problem}; send such ones")
            return self._adhoc(tuple(labels), "multi" if multi else "single")
        if "multi" in asked:
            raise Problem("multi_invalid", "multi is for labels, a label set says it itself: leave multi out")
        return self._named(asked)

    def _named(self, asked: Mapping[str, Any]) -> LabelSet:
        if "label_set" not in asked:
            if self._default is None:
                raise Problem("label_set_missing", "there are no labels: send labels, or a label_set of /label-sets")
            return self._default
        name = asked["label_set"]
        if not isinstance(name, str):
            raise Problem("label_set_invalid", "label_set is not a string: send the name of one of /label-sets")
        if name not in self._sets:
            raise Problem("label_set_unknown", "there is no label set of this name: send one of /label-sets")
        return self._sets[name]


def _adhoc(labels: tuple[str, ...], mode: Literal["single", "multi"]) -> LabelSet:
    return LabelSet.adhoc(labels, mode=mode)


@cache
def not_blank() -> str:
    """A regular expression that finds something in what is not blank (`is_blank`), for the OpenAPI document."""
    runs: list[list[int]] = []
    for code in filter(lambda code: is_blank(chr(code)), range(sys.maxunicode + 1)):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return f"[^{''.join(f'{_written(first)}-{_written(last)}' for first, last in runs)}]"


def _written(code: int) -> str:
    # The dialects of regular expressions write what does not fit into four digits in different ways: so it is as it is.
    return chr(code) if code > 0xFFFF else f"\\u{code:04x}"  # noqa: PLR2004 - the largest of four digits
