"""For schemathesis, which takes it by SCHEMATHESIS_HOOKS: lines of JSON are sent as they are."""

from __future__ import annotations

from typing import Any

import orjson
import schemathesis


@schemathesis.serializer("application/x-ndjson")
def as_it_is(context: schemathesis.SerializationContext, value: Any) -> Any:
    """The body as bytes."""
    del context
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else orjson.dumps(value)
