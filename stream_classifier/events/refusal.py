"""Why an event is put aside: the reason codes of the dead-letter topic."""

from __future__ import annotations

from typing import Literal, NamedTuple

Code = Literal[
    "tombstone",
    "not_utf8",
    "not_json",
    "not_an_object",
    "text_missing",
    "text_not_a_string",
    "text_blank",
    "text_too_large",
    "labels_invalid",
    "field_taken",
    "cloudevent_invalid",
    "schema_unknown",
    "schema_mismatch",
    "schema_refused",
    "header_unreadable",
    "output_too_large",
    "timestamp_refused",
    "inference_failed",
    "killed_worker",
]


class Refusal(NamedTuple):
    """An event that cannot be labelled.

    Attributes:
        code: Stable, for programs.
        message: For people; never holds the user's text.
        label_set: `name@version`, or `adhoc`, of an event that was refused after it had been labelled, or
            that the model failed on.
    """

    code: Code
    message: str
    label_set: str | None = None
