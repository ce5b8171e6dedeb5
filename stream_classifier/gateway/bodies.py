"""What clients send: read in pieces, with a limit that holds while it is read, and not only by what a header says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from stream_classifier.gateway.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from fastapi import Request

_NEWLINE: Final = b"\n"


def require_type(request: Request, types: Collection[str]) -> None:
    """Refuse what is of no such media type: a page of somebody else's could send it without asking first (CORS).

    Raises:
        Problem: `media_type`.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in types:
        raise Problem("media_type", f"this is of another type: send Content-Type: {next(iter(types))}", status=415)


async def whole_body(request: Request, limit: int, until: float) -> bytes:
    """All of a request's body.

    Args:
        request: Of it nothing has been read.
        limit: Bytes.
        until: The second of the loop's clock by which it has to be there.

    Raises:
        Problem: It is larger (`too_large`), too slow (`read_timeout`), or the client has gone.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout_at(until):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise Problem(
            "read_timeout", "the request did not come whole within gateway.deadline_seconds: send it faster", status=408
        ) from None
    except ClientDisconnect:
        raise Problem("client_gone") from None
    return bytes(body)


async def lines(request: Request, limit: int) -> AsyncIterator[bytes | Problem]:
    """The lines of a request's body as they come, without their ends; a `Problem` in the place of one that is too long.

    Args:
        request: Of it nothing has been read.
        limit: Bytes of a line.

    Raises:
        Problem: The client has gone.
    """
    line, is_too_long = bytearray(), False
    try:
        async for chunk in request.stream():
            first, *rest = chunk.split(_NEWLINE)
            for number, part in enumerate((first, *rest)):
                if number:  # an end of line stood before this part
                    yield too_large(limit) if is_too_long else bytes(line)
                    line, is_too_long = bytearray(), False
                is_too_long = is_too_long or len(line) + len(part) > limit
                if is_too_long:
                    line.clear()
                else:
                    line += part
    except ClientDisconnect:
        raise Problem("client_gone") from None
    if line or is_too_long:
        yield too_large(limit) if is_too_long else bytes(line)


def too_large(limit: int) -> Problem:
    """What a request, or a line of a stream, is told that is larger than this."""
    return Problem("too_large", f"this is larger than {limit:,} bytes (gateway.request_bytes): send less", status=413)
