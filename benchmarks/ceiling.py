"""What the built-in model can do in process with perfect batching and no Kafka, and how near that is to the machine.

    python benchmarks/ceiling.py [--events 3000] [--rounds 3]

All texts are tokenised, sorted by length and cut by the token budget at once; as many threads as there are cores run
the batches. The machine's peak is the rate of large matrix products of the kind that nearly all of the model's work is
done in (8-bit integers), in as many threads, each with a session of its own, measured in turn with the model.

Work is counted for useful tokens only: two operations for each weight of the layers and each token, and four for each
pair of tokens of a text, each layer and each dimension, for attention (which runs in floats, and counts all the same).
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from perfect_batches import embed_all
from streams import machine
from workloads import WORKLOADS

from stream_classifier.cores import available_cores
from stream_classifier.model.bundle import MODEL_FILE
from stream_classifier.model.default import default_path
from stream_classifier.model.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZE = 1024
"""Rows, columns and depth of the matrix products that stand for the peak."""


class Work(NamedTuple):
    """What one token costs.

    Attributes:
        weights: Of all layers, each used once a token.
        layers: How many.
        dimensions: Of a token.
    """

    weights: int
    layers: int
    dimensions: int

    def operations(self, lengths: Sequence[int]) -> float:
        """Multiplications and additions for texts of these lengths in tokens."""
        squares = float(np.square(np.array(lengths, dtype=np.float64)).sum())
        return 2.0 * self.weights * sum(lengths) + 4.0 * self.layers * self.dimensions * squares


def work_of(path: Path) -> Work:
    """Read off the graph: its integer matrices, and its attention."""
    graph = onnx.load(str(path), load_external_data=False).graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    weights, dimensions = 0, 0
    for node in graph.node:
        if node.op_type.startswith("MatMulInteger"):
            for name in node.input:
                match sizes.get(name):
                    case [rows, columns]:
                        weights += rows * columns
                        dimensions = dimensions or rows  # of the first one, which takes a token's vector
    return Work(weights, sum(node.op_type == "Attention" for node in graph.node), dimensions)


def integer_product() -> onnxruntime.InferenceSession:
    """One product of 8-bit integers as the model does them, with constant weights."""
    weights = np.random.default_rng(0).integers(-63, 64, (SIZE, SIZE), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [SIZE, SIZE])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def peak(sessions: list[onnxruntime.InferenceSession], seconds: float = 2.0) -> float:
    """Operations a second of all sessions at once."""
    rows = np.random.default_rng(0).integers(0, 128, (SIZE, SIZE), dtype=np.uint8)

    def count(session: onnxruntime.InferenceSession) -> int:
        done, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            session.run(None, {"x": rows})
            done += 1
        return done

    with ThreadPoolExecutor(len(sessions)) as pool:
        begin = time.perf_counter()
        products = sum(pool.map(count, sessions))
        return products * 2.0 * SIZE**3 / (time.perf_counter() - begin)


def main() -> None:
    """Measure in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    threads = available_cores()
    encoder = Encoder.open(None)
    work = work_of(default_path() / MODEL_FILE)
    sessions = [integer_product() for _ in range(threads)]
    print(machine())
    print(f"{encoder.manifest.identity}: {work.weights:,} weights in {work.layers} layers; {threads} threads")
    peaks: list[float] = []
    for name, workload in WORKLOADS.items():
        texts = workload(options.events, 1)
        rates, shares = [], []
        for _ in range(options.rounds):
            peaks.append(peak(sessions))
            seconds, lengths = embed_all(encoder, texts, threads)
            rates.append(len(texts) / seconds)
            shares.append(work.operations(lengths) / seconds / peaks[-1])
        ordered = sorted(lengths)
        print(
            f"{name:<12}{ordered[len(ordered) // 2]:>4} tokens (median; p95 {ordered[int(len(ordered) * 0.95)]})"
            f"{statistics.median(rates):>8,.0f} texts/s ({min(rates):,.0f} to {max(rates):,.0f})"
            f"{statistics.median(shares):>7.0%} of the peak ({min(shares):.0%} to {max(shares):.0%})"
        )
    print(f"peak of 8-bit products: {statistics.median(peaks) / 1e9:,.0f} GOP/s (to {max(peaks) / 1e9:,.0f})")


if __name__ == "__main__":
    main()
