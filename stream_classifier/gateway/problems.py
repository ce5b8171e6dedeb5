"""What a client is told when it gets no result: a status, a code for programs, and what to do next for people."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

import orjson
from fastapi.responses import Response

Code = Literal[
    "not_json",
    "key_missing",
    "key_unknown",
    "not_found",
    "method_not_allowed",
    "read_timeout",
    "too_large",
    "media_type",
    "not_an_object",
    "member_unknown",
    "text_missing",
    "text_not_a_string",
    "text_blank",
    "labels_invalid",
    "label_set_invalid",
    "label_set_unknown",
    "label_set_missing",
    "multi_invalid",
    "inference_failed",
    "rate_limited",
    "client_gone",
    "defect",
    "starting",
    "overloaded",
    "draining",
    "model_lost",
    "deadline_exceeded",
]

CLIENT_GONE: Final = 499
"""The status by which one that nobody waits for is counted; nobody gets to see it."""


class Advice(NamedTuple):
    """An error that can be foreseen whole.

    Attributes:
        status: Of HTTP.
        message: What is wrong and what to do next.
    """

    status: int
    message: str


_FORESEEN: Final[dict[Code, Advice]] = {
    "key_missing": Advice(401, "this gateway takes a key: send it as Authorization: Bearer KEY"),
    "key_unknown": Advice(401, "this key is not known here: ask whoever runs the gateway for one"),
    "not_found": Advice(404, "there is nothing at this path: see /openapi.json for what there is"),
    "method_not_allowed": Advice(405, "this path does not take this method: see /openapi.json for those that it takes"),
    "text_blank": Advice(422, "the text is empty, or only white space and format characters: send one with words"),
    "inference_failed": Advice(422, "the model cannot label this text, though it labels others: change the text"),
    "client_gone": Advice(CLIENT_GONE, "the client has gone: nothing is computed for it"),
    "defect": Advice(500, "a defect of the gateway, which is in its log: tell whoever runs it"),
    "starting": Advice(503, "the model is being loaded: try again when /readyz says ok"),
    "overloaded": Advice(503, "too much is under way: try again after the seconds of Retry-After"),
    "draining": Advice(503, "the gateway is stopping: try again, with another one"),
    "model_lost": Advice(503, "the model has failed and the gateway is stopping: try again, with another one"),
    "deadline_exceeded": Advice(
        504, "there was no result within gateway.deadline_seconds: try again later, or send less at once"
    ),
}


class Problem(Exception):  # noqa: N818 - it ends a request, and is not an error of ours
    """Ends a request, or a line of a stream, without a result.

    Args:
        code: For programs; also the `reason` in the metrics.
        message: For people, with what to do next; never anything that the client sent. None: as foreseen.
        status: Of HTTP; None: as foreseen.
        retry_after: Seconds, for the header of that name.
    """

    def __init__(
        self, code: Code, message: str | None = None, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        foreseen = _FORESEEN.get(code, Advice(422, ""))
        self.code: Code = code
        self.status = status or foreseen.status
        self.message = message or foreseen.message
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        if self.status == 401:  # noqa: PLR2004 - a status of HTTP
            self.headers["WWW-Authenticate"] = "Bearer"
        super().__init__(f"{code}: {self.message}")

    @property
    def members(self) -> dict[str, object]:
        """What the body of the answer holds."""
        return {"error": {"code": self.code, "message": self.message}}

    def answer(self) -> Response:
        """The answer that tells it."""
        return Response(orjson.dumps(self.members), self.status, self.headers, "application/json")
