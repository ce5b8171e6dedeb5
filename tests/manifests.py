"""Kubernetes manifests as a cluster would get them: built by kustomize, and held against the schemas of their kinds."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "config" / "kubernetes"

OLDEST = "1.27"  # Kubernetes that the manifests are for, as docs/kubernetes.md says

Manifest = dict[str, Any]

_SCHEMAS = Path(__file__).parent / "schemas"
_OF_OTHERS = {
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("keda.sh/v1alpha1", "TriggerAuthentication"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
}


def tool(name: str) -> str | None:
    """The path of a command that `make tools` has built, or that is there anyway."""
    own = ROOT / "build" / "tools" / name
    return str(own) if own.exists() else shutil.which(name)


def required_tool(name: str) -> str:
    """The same; without it the test fails in CI, and is skipped elsewhere."""
    if (found := tool(name)) is None:
        missing = f"there is no {name}: make tools"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@functools.cache
def build(directory: Path) -> list[Manifest]:
    """The objects of a kustomization, in its order. Not to be changed."""
    command = [required_tool("kustomize"), "build", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def one(objects: list[Manifest], kind: str) -> Manifest:
    """The only object of a kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def validate(manifest: Manifest) -> None:
    """Hold an object against the schema of its kind, which refuses fields that it does not name.

    Raises:
        jsonschema.ValidationError: It does not fit.
    """
    if (manifest["apiVersion"], manifest["kind"]) in _OF_OTHERS:
        jsonschema.validate(manifest, _schema(manifest["kind"]))
        # Their definitions leave metadata to the API server.
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}
    for version in (OLDEST, kubernetes_validate.latest_version()):
        kubernetes_validate.validate(manifest, version, strict=True)


def validate_trigger(metadata: Manifest) -> None:
    """Hold the metadata of a `kafka` trigger against what KEDA's scaler takes.

    Raises:
        jsonschema.ValidationError: It does not fit.
    """
    jsonschema.validate(metadata, _schema("keda-kafka-trigger"))


@functools.cache
def _schema(name: str) -> Manifest:
    schema = json.loads((_SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(schema, dict)
    return schema
