"""Values of Avro as JSON, where JSON has no kind for them."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
from typing import Any

import orjson


def as_json(members: dict[str, Any]) -> bytes:
    """A record as JSON: decimals as text, bytes in base64, times as in RFC 3339, lengths of time in seconds."""
    return orjson.dumps(members, default=_default)


def _default(value: object) -> str | float:
    match value:
        case decimal.Decimal():
            return format(value, "f")
        case bytes():
            return base64.b64encode(value).decode()
        case dt.timedelta():
            return value.total_seconds()
        case _:
            raise TypeError(f"no JSON for {type(value).__name__}")
