"""The application: its routes, its errors, and what stands around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from stream_classifier import __version__
from stream_classifier.gateway import classify_route, label_sets_route, pages_route, stream_route
from stream_classifier.gateway.documented import BEARER
from stream_classifier.gateway.problems import Problem
from stream_classifier.gateway.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from fastapi import APIRouter, Request, Response

    from stream_classifier.gateway.service import Service

# What else is served adds its own here.
_ROUTES: Final[tuple[Callable[[Service], APIRouter], ...]] = (
    classify_route.routes,
    stream_route.routes,
    label_sets_route.routes,
    pages_route.routes,
)
_NOT_FOUND, _METHOD_NOT_ALLOWED = 404, 405


def application(service: Service) -> Recording:
    """Everything that this service answers, as an ASGI application."""
    app = FastAPI(
        title="stream-classifier gateway",
        version=__version__,
        description="Labels short texts with labels chosen in plain words.",
        docs_url=None,  # its page fetches scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    for routes in _ROUTES:
        app.include_router(routes(service))

    async def problem(_: Request, error: Exception) -> Response:
        told = error if isinstance(error, Problem) else _of_http(error)
        service.counted.rejected.labels(told.code).inc()
        return told.answer()

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, problem)
    if origins := service.settings.gateway.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    document = _document(app, service)
    app.openapi = lambda: document  # type: ignore[method-assign]  # as FastAPI's documentation has it
    return Recording(app, service.counted)


def _of_http(error: Exception) -> Problem:
    """What the framework raises for paths and methods that there are not, as a problem of ours."""
    if not isinstance(error, HTTPException) or error.status_code not in {_NOT_FOUND, _METHOD_NOT_ALLOWED}:
        raise error
    told = Problem("not_found" if error.status_code == _NOT_FOUND else "method_not_allowed")
    told.headers |= error.headers or {}
    return told


def _document(app: FastAPI, service: Service) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    if service.settings.gateway.keys:
        document["components"]["securitySchemes"] = {BEARER: {"type": "http", "scheme": "bearer"}}
    return document
