"""The answer to a stream of lines: one task reads, one for each line waits for its result, and one writes in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import orjson
from fastapi.responses import Response

from stream_classifier.gateway.answers import encoded
from stream_classifier.gateway.bodies import lines
from stream_classifier.gateway.problems import Problem

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.types import Receive, Scope, Send

    from stream_classifier.gateway.batcher import Batcher
    from stream_classifier.gateway.keys import Client
    from stream_classifier.gateway.service import Service

LINES: Final = "application/x-ndjson"


class StreamAnswer(Response):
    """Reads lines and writes their answers.

    Starlette's own for streams would look for the end of the connection in what is still to be read here.

    Args:
        service: Its places for streams bound how many there are.
        client: Whose lines are counted.
        batcher: Labels the texts.
        request: Of it nothing has been read.
    """

    media_type = LINES

    def __init__(self, service: Service, client: Client, batcher: Batcher, request: Request) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._service = service
        self._client = client
        self._batcher = batcher
        self._request = request
        gateway = service.settings.gateway
        self._limit = gateway.request_bytes
        self._room = asyncio.Semaphore(gateway.stream_lines)
        # In the order of the lines; a `Problem` ends it before its last line, None after it.
        self._answers: asyncio.Queue[asyncio.Task[bytes] | Problem | None] = asyncio.Queue()
        self._taken = 0  # the number of the last line that is or will be answered, or is empty

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what ASGI calls.

        Raises:
            Problem: There are too many streams.
        """
        del scope, receive  # the request has them
        with self._service.streams.one():
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read(group))
                    ending = group.create_task(self._end_when_draining(reading))
                    await self._write(send)
                    reading.cancel()
                    ending.cancel()
            except* Problem:
                # The client has gone, and all that it waited for with it.
                self._count(Problem("client_gone"))

    async def _read(self, group: asyncio.TaskGroup) -> None:
        try:
            async for line in lines(self._request, self._limit):
                if isinstance(line, Problem) or line.strip():
                    await self._room.acquire()
                    await self._turn()
                    self._answers.put_nowait(group.create_task(self._answer(line, self._taken + 1)))
                self._taken += 1
        except asyncio.CancelledError:
            self._answers.put_nowait(Problem("draining"))
            raise
        self._answers.put_nowait(None)
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        raise Problem("client_gone")

    async def _turn(self) -> None:
        """Wait until the client may have another line."""
        while wait := self._client.take(self._service.now()):  # noqa: ASYNC110 - nobody tells when a token drips in
            await asyncio.sleep(wait)

    async def _end_when_draining(self, reading: asyncio.Task[None]) -> None:
        await self._service.draining.wait()
        reading.cancel()

    async def _answer(self, line: bytes | Problem, number: int) -> bytes:
        try:
            if isinstance(line, Problem):
                raise line
            asked = self._service.reader.read(line)
            answer = encoded(asked.text, await self._batcher.classify(asked))
        except Problem as problem:
            self._count(problem)
            return _error(problem, number)
        self._service.counted.stream_lines.labels("ok").inc()
        return answer + b"\n"

    async def _write(self, send: Send) -> None:
        while (answer := await self._answers.get()) is not None:
            if isinstance(answer, Problem):
                self._count(answer)
                written = _error(answer, self._taken + 1)
            else:
                written = await answer
            await send({"type": "http.response.body", "body": written, "more_body": True})
            if isinstance(answer, Problem):
                break
            self._room.release()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _count(self, problem: Problem) -> None:
        self._service.counted.stream_lines.labels("failed").inc()
        self._service.counted.rejected.labels(problem.code).inc()


def _error(problem: Problem, line: int) -> bytes:
    return orjson.dumps(problem.members | {"line": line}) + b"\n"
