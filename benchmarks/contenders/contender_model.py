"""The model as a user of ONNX Runtime calls it, and the command line of every contender."""

from __future__ import annotations

import argparse
from pathlib import Path  # noqa: TC003 - read at run time, as the type of an option
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import numpy as np
import onnxruntime
import orjson
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

Event = dict[str, Any]


class Job(NamedTuple):
    """What a contender is to do.

    Attributes:
        servers: Where Kafka is.
        source: The topic of events.
        target: The topic of labelled events.
        group: The consumer group.
        model: A directory with model.onnx, tokenizer.json and labels.json.
        threads: How many ONNX Runtime may use.
        batch: How many events are labelled at once.
    """

    servers: str
    source: str
    target: str
    group: str
    model: Path
    threads: int
    batch: int


def job() -> Job:
    """The job, from the command line."""
    parser = argparse.ArgumentParser()
    for name, kind in get_type_hints(Job).items():
        parser.add_argument(f"--{name}", required=True, type=kind)
    return Job(**vars(parser.parse_args()))


class Model:
    """Labels texts: pads a batch to its longest text, runs it, compares with the labels.

    Args:
        directory: model.onnx, tokenizer.json and labels.json.
        threads: Of one session, as ONNX Runtime divides the work itself.
    """

    def __init__(self, directory: Path, threads: int) -> None:
        labels = orjson.loads((directory / "labels.json").read_bytes())
        self._names: list[str] = labels["names"]
        self._vectors = np.array(labels["vectors"], dtype=np.float32)
        self._temperature: float = labels["temperature"]
        self._prefix: str = labels["prefix"]
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.enable_truncation(labels["max_length"])
        self._tokenizer.enable_padding(pad_id=(self._tokenizer.padding or {"pad_id": 0})["pad_id"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # The graph is optimised already; ONNX Runtime's own rewriting would make it another one.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def label(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The best label of each text, with its score: the softmax of the cosines."""
        encoded = self._tokenizer.encode_batch([self._prefix + text for text in texts])
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        [embeddings] = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        exponents = embeddings @ self._vectors.T / self._temperature
        weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
        scores = weights / weights.sum(axis=1, keepdims=True)
        return [
            {"label": self._names[best], "score": float(row[best])}
            for best, row in zip(scores.argmax(axis=1).tolist(), scores, strict=True)
        ]

    def enrich(self, events: Sequence[Event]) -> list[Event]:
        """Events with their classification."""
        results = self.label([event["text"] for event in events])
        return [event | {"classification": result} for event, result in zip(events, results, strict=True)]

    def enrich_bytes(self, values: Sequence[bytes]) -> list[bytes]:
        """The same, for those that read and write JSON by themselves."""
        return [orjson.dumps(event) for event in self.enrich([orjson.loads(value) for value in values])]
