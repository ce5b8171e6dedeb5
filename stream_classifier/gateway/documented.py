"""Parts of the OpenAPI document that several routes share."""

from http import HTTPStatus
from typing import Any, Final

from stream_classifier.gateway.answers import ErrorAnswer
from stream_classifier.gateway.service import Service

ASKING: Final = (400, 401, 429)
"""What any request may be told that is counted as its client's."""

BEARER: Final = "key"
"""Name of the security scheme."""

_WITH_RETRY_AFTER: Final = frozenset({429, 503})


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How answers of these statuses look."""
    return {status: _error(status) for status in statuses}


def body(content: dict[str, Any]) -> dict[str, Any]:
    """A request's body, which the route reads by itself.

    Args:
        content: For each media type, its schema and its examples.
    """
    return {"requestBody": {"required": True, "content": content}}


def security(service: Service) -> dict[str, Any]:
    """That a key is needed, where it is."""
    return {"security": [{BEARER: []}]} if service.settings.gateway.keys else {}


def _error(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"model": ErrorAnswer, "description": HTTPStatus(status).phrase}
    if status in _WITH_RETRY_AFTER:
        described["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
        }
    return described
