"""What clients get: results as JSON, and how answers look, for the OpenAPI document."""

from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from stream_classifier.classify.classification import Classification

EXAMPLE: Final[dict[str, Any]] = {
    "text": "外卖送得太慢了",
    "label": "delivery",
    "results": [{"label": "delivery", "score": 0.6975}, {"label": "payment", "score": 0.1009}],
    "label_set": "support@1",
    "model": "multilingual-e5-small@d7f04f93",
    "truncated": False,
}


class Scored(BaseModel):
    """A label and how well it fits."""

    label: str
    score: float = Field(ge=0, le=1)


class ClassifyAnswer(BaseModel):
    """The labels of one text."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    text: str = Field(description="As it was sent.")
    label: str | None = Field(description="The best label; null when none reaches its threshold.")
    results: list[Scored] = Field(
        description="Best first: the best `gateway.top_k` in single mode, all over their own thresholds in multi mode."
    )
    label_set: str = Field(description="Name and version of the label set; `adhoc` for labels that were sent.")
    model: str = Field(description="Name and hash of the model bundle.")
    truncated: bool = Field(description="Whether the text is longer than the model reads.")
    decided_by: Literal["similarity", "entailment"] = Field(
        default="similarity", description="With two models, which of them had the last word; left out with one."
    )


class ErrorMembers(BaseModel):
    """Why there is no result."""

    code: str = Field(description="For programs.")
    message: str = Field(description="For people, with what to do next.")


class ErrorAnswer(BaseModel):
    """There is no result."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": {"code": "text_missing", "message": "there is no member text: send the text in it"}}
        }
    )

    error: ErrorMembers


class LabelShown(BaseModel):
    """A label of a set."""

    name: str
    description: str | None = Field(description="What it is about.")


class LabelSetShown(BaseModel):
    """A set of labels that are chosen among together."""

    name: str
    version: int
    label_set: str = Field(description="Name and version: what results carry.")
    mode: Literal["single", "multi"] = Field(description="Whether a text gets the best label or all that fit.")
    default: bool = Field(description="Whether it is the one for requests that name none and bring no labels.")
    labels: list[LabelShown]


class LabelSetsAnswer(BaseModel):
    """The label sets of this gateway."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "label_sets": [
                    {
                        "name": "support",
                        "version": 1,
                        "label_set": "support@1",
                        "mode": "single",
                        "default": True,
                        "labels": [{"name": "delivery", "description": "the parcel or the meal is late or lost"}],
                    }
                ]
            }
        }
    )

    label_sets: list[LabelSetShown]


def encoded(text: str, result: Classification) -> bytes:
    """A result as JSON."""
    members: dict[str, object] = {
        "text": text,
        "label": result.label,
        "results": [{"label": label, "score": score} for label, score in result.labels],
        "label_set": result.label_set,
        "model": result.model,
        "truncated": result.truncated,
    }
    if result.decided_by is not None:
        members["decided_by"] = result.decided_by
    return orjson.dumps(members)
