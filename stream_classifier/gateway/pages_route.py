"""`/healthz`, `/readyz` and `/metrics`, as a worker has them."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream_classifier.gateway.documented import errors, security
from stream_classifier.gateway.service import Service

_OK = {"description": "ok", "content": {"text/plain": {"example": "ok\n"}}}
_NOT = {"description": "What is wrong", "content": {"text/plain": {"example": "stopping\n"}}}


def routes(service: Service) -> APIRouter:
    """The routes, for this service."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether it is alive", responses={200: _OK, 503: _NOT})
    async def healthz() -> PlainTextResponse:
        """503, with what is wrong, when it is to be started again."""
        return _said(service.health.alive(service.now()))

    @router.get("/readyz", summary="Whether it is ready", responses={200: _OK, 503: _NOT})
    async def readyz() -> PlainTextResponse:
        """503 while the model is being loaded, and as soon as the gateway is stopping."""
        return _said(service.health.ready())

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses=errors(401),
        openapi_extra=security(service),
    )
    async def metrics(request: Request) -> PlainTextResponse:
        """All metrics, in Prometheus' text format."""
        service.client(request.headers.get("authorization"))
        return PlainTextResponse(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _said(problem: str | None) -> PlainTextResponse:
    return PlainTextResponse(f"{problem or 'ok'}\n", 503 if problem else 200)
