"""Takes the schema of an object out of a CustomResourceDefinition: without descriptions, and refusing unknown fields.

    python tests/schemas/extract.py CRD.yaml VERSION > tests/schemas/KIND.json
    python tests/schemas/extract.py scalers-schema.json kafka > tests/schemas/keda-kafka-trigger.json

An API server drops what a definition does not name, and `kubectl apply` refuses it (`--validate=strict`, its default).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml


def strict(schema: Any) -> Any:
    """A schema in which an object has the fields that are named, and no others."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A description is text; a property of that name is a schema.
    kept = {
        key: strict(value) for key, value in schema.items() if not (key == "description" and isinstance(value, str))
    }
    if isinstance(kept.get("pattern"), str):
        kept["pattern"] = re.sub(
            r"^\^\(\?i\)", "(?i)^", kept["pattern"]
        )  # Go takes a flag anywhere, Python at the start
    open_to_others = kept.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in kept
    if isinstance(kept.get("properties"), dict) and kept.get("type") == "object" and not open_to_others:
        kept["additionalProperties"] = False
    return kept


def custom_resource(definition: dict[str, Any], version: str) -> dict[str, Any]:
    """The schema of one version of a kind. Of `metadata` a definition says nothing: it is the API server's."""
    (found,) = (one for one in definition["spec"]["versions"] if one["name"] == version)
    return {**strict(found["schema"]["openAPIV3Schema"]), "$schema": "http://json-schema.org/draft-07/schema#"}


def trigger(scalers: dict[str, Any], kind: str) -> dict[str, Any]:
    """The schema of a trigger's `metadata`: texts, some of which have a few values to choose from."""
    (found,) = (scaler for scaler in scalers["scalers"] if scaler["type"] == kind)
    own = [parameter for parameter in found["parameters"] if parameter.get("metadataVariableReadable")]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "required": [one["name"] for one in own if not one.get("optional") and "default" not in one],
        "properties": {
            one["name"]: {"type": "string", **({"enum": one["allowedValue"]} if "allowedValue" in one else {})}
            for one in own
        },
    }


def main() -> None:
    """Print the schema."""
    path, what = Path(sys.argv[1]), sys.argv[2]
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    schema = trigger(document, what) if "scalers" in document else custom_resource(document, what)
    json.dump(schema, sys.stdout, separators=(",", ":"), sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
