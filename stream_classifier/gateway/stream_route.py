"""`POST /classify/stream`: JSON lines in, JSON lines out, in their order, while more are still being sent."""

from fastapi import APIRouter, Request, Response

from stream_classifier.gateway.bodies import require_type
from stream_classifier.gateway.documented import ASKING, body, errors, security
from stream_classifier.gateway.service import Service
from stream_classifier.gateway.stream_answer import LINES, StreamAnswer

_TYPES = (LINES, "application/jsonl", "application/json-lines")


def routes(service: Service) -> APIRouter:
    """The route, for this service."""
    router = APIRouter()
    line = {"type": "string", "description": "A JSON object a line, each as /classify takes it."}
    sent = {"schema": line, "example": '{"text": "where is my parcel", "labels": ["delivery", "refund"]}\n'}
    answered = {
        "schema": {
            "type": "string",
            "description": "A JSON object for each line that is not empty: what /classify answers, or an error with "
            "the number of its line.",
        },
        "example": '{"error":{"code":"not_json","message":"this is not JSON in UTF-8, ..."},"line":1}\n',
    }

    @router.post(
        "/classify/stream",
        summary="Label a stream of texts",
        response_class=Response,
        responses={200: {"description": "The answers", "content": {LINES: answered}}, **errors(*ASKING, 415, 503)},
        openapi_extra=body({LINES: sent}) | security(service),
    )
    async def stream(request: Request) -> Response:
        """Label texts as they come, and answer as it goes, in their order.

        Read the answers while you send: when too many lines are not yet answered, no more are read. A line that cannot
        be labelled is answered with an error, and the others go on.
        """
        client = service.admit(request.headers.get("authorization"))
        batcher = service.open()
        require_type(request, _TYPES)
        return StreamAnswer(service, client, batcher, request)

    return router
