"""Exports for the tests: each model is exported once a session, however many tests look at it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny_models
from numpy.typing import NDArray
from tokenizers import Tokenizer

from stream_classifier.model.bundle import Task, read_manifest
from stream_classifier.model.session import session_options
from stream_classifier_export.making import export
from stream_classifier_export.request import Request

__all__ = ["Export", "answers", "export_tiny", "session", "tiny_model"]

Export = Callable[..., Path]
"""Architecture, task and options to the directory of the bundle."""


def session(bundle: Path) -> onnxruntime.InferenceSession:
    """The bundle's model, set up as in the worker."""
    return onnxruntime.InferenceSession(bundle / "model.onnx", session_options(), providers=["CPUExecutionProvider"])


def answers(bundle: Path, texts: list[Any]) -> NDArray[np.float32]:
    """What a bundle's model makes of texts or pairs in one batch: its own tokenizer, its own graph."""
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.enable_truncation(read_manifest(bundle).max_length)
    encodings = tokenizer.encode_batch(texts)
    run = session(bundle)
    given = {
        "input_ids": [encoding.ids for encoding in encodings],
        "attention_mask": [encoding.attention_mask for encoding in encodings],
        "token_type_ids": [encoding.type_ids for encoding in encodings],
    }
    [output] = run.run(None, {put.name: np.array(given[put.name]) for put in run.get_inputs()})
    return np.asarray(output)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Task], Path]:
    """Makes a tiny model of an architecture and a task, once."""
    root, made = tmp_path_factory.mktemp("models"), dict[tuple[str, Task], Path]()

    def make(architecture: str, task: Task) -> Path:
        key = (architecture, task)
        if key not in made:
            made[key] = tiny_models.make(root / f"tiny-{architecture}-{task}", architecture, task)
        return made[key]

    return make


@pytest.fixture(scope="session")
def export_tiny(tiny_model: Callable[[str, Task], Path], tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports a tiny model with these options, once."""
    root, done = tmp_path_factory.mktemp("bundles"), dict[str, Path]()

    def exported(architecture: str, task: Task, **options: Any) -> Path:
        key = repr((architecture, task, sorted(options.items())))
        if key not in done:
            directory = root / f"{len(done)}"
            options = {"pooling": "mean"} | options if task == "similarity" else options
            model = tiny_model(architecture, task)
            request = Request(
                source=str(model),
                out=directory,
                task=task,
                allow_pickled_weights=architecture == "structbert",
                **options,
            )
            export(request, progress=lambda _: None)
            done[key] = directory
        return done[key]

    return exported
