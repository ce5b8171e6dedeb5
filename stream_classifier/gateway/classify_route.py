"""`POST /classify`: one text, one answer."""

import asyncio

from fastapi import APIRouter, Request, Response

from stream_classifier.gateway.answers import EXAMPLE, ClassifyAnswer, encoded
from stream_classifier.gateway.bodies import require_type, whole_body
from stream_classifier.gateway.documented import ASKING, body, errors, security
from stream_classifier.gateway.service import Service

_JSON = "application/json"


def routes(service: Service) -> APIRouter:
    """The route, for this service."""
    gateway = service.settings.gateway
    router = APIRouter()
    examples = {
        "labels": {
            "summary": "labels of one's own",
            "value": {"text": EXAMPLE["text"], "labels": ["food", "delivery"]},
        },
        "multi": {
            "summary": "every label that fits",
            "value": {"text": "late, and cold", "labels": ["late", "cold food", "rude"], "multi": True},
        },
        "label_set": {
            "summary": "a label set of /label-sets",
            "value": {"text": EXAMPLE["text"], "label_set": min(service.label_sets)},
        },
    }

    @router.post(
        "/classify",
        summary="Label a text",
        response_model=ClassifyAnswer,
        responses=errors(*ASKING, 408, 413, 415, 422, 503, 504),
        openapi_extra=body({_JSON: {"schema": service.reader.schema, "examples": examples}}) | security(service),
    )
    async def classify(request: Request) -> Response:
        """Give a text one of the labels, or in multi mode all that fit.

        The texts of all clients share the runs of the model, and a text's result depends on nothing that is asked
        beside it.
        """
        until = service.now() + gateway.deadline_seconds
        service.admit(request.headers.get("authorization"))
        batcher = service.open()
        require_type(request, (_JSON,))
        with service.texts.one():
            asked = service.reader.read(await whole_body(request, gateway.request_bytes, until))
            gone = asyncio.create_task(_gone(request))
            try:
                result = await batcher.classify(asked, until=until, gone=gone)
            finally:
                gone.cancel()
        return Response(encoded(asked.text, result), media_type=_JSON)

    return router


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
