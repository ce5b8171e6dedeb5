"""Counts and times every request, and tells of defects without what they quote."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_classifier.gateway.problems import CLIENT_GONE, Problem
from stream_classifier.logs import logger

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from stream_classifier.metrics import GatewayMetrics

_ELSEWHERE = "other"  # what is asked for at paths that there are not is the client's, and no label


class Recording:
    """Stands around the application.

    Args:
        app: What answers.
        counted: Is kept up to date.
    """

    def __init__(self, app: ASGIApp, counted: GatewayMetrics) -> None:
        self._app = app
        self._counted = counted
        self._log = logger("gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what ASGI calls."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            # One request's defect is not to end everybody's service. Its message could quote a text; where it came
            # from is enough to look it up.
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]  # the first of those that ran together
            frames = traceback.extract_tb(error.__traceback__)
            where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:]]
            self._log.error("defect", error=type(error).__name__, where=where)
            self._counted.rejected.labels("defect").inc()
            if status:
                raise  # half an answer is on its way: the server ends the connection
            await Problem("defect").answer()(scope, receive, sent)
        finally:
            route = getattr(scope.get("route"), "path", _ELSEWHERE)
            self._counted.requests.labels(route, str(status or CLIENT_GONE)).inc()
            self._counted.request_seconds.observe([time.perf_counter() - begun], route)
