"""`GET /label-sets`: which there are."""

from fastapi import APIRouter, Request

from stream_classifier.gateway.answers import LabelSetsAnswer, LabelSetShown, LabelShown
from stream_classifier.gateway.documented import ASKING, errors, security
from stream_classifier.gateway.service import Service


def routes(service: Service) -> APIRouter:
    """The route, for this service."""
    router = APIRouter()
    shown = LabelSetsAnswer(
        label_sets=[
            LabelSetShown(
                name=label_set.name,
                version=label_set.version or 0,
                label_set=label_set.identity,
                mode=label_set.mode,
                default=label_set is service.default,
                # Not their examples, which may be somebody's texts.
                labels=[LabelShown(name=label.name, description=label.description) for label in label_set.labels],
            )
            for _, label_set in sorted(service.label_sets.items())
        ]
    )

    @router.get("/label-sets", summary="The label sets", responses=errors(*ASKING[1:]), openapi_extra=security(service))
    async def label_sets(request: Request) -> LabelSetsAnswer:
        """The label sets of the settings, with their labels."""
        service.admit(request.headers.get("authorization"))
        return shown

    return router
