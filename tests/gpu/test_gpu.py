"""On a real NVIDIA GPU: `make gpu-check`. Collected only with --gpu, and then nothing here is skipped."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import tiny_bundle
import tiny_entailment
from exporting import export_tiny, tiny_model
from prometheus_client import generate_latest
from stream import Stream
from worker_process import Process

from stream_classifier.classify.classification import Classification
from stream_classifier.classify.classifier import Classifier, Request
from stream_classifier.classify.entailment import Entailment
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.similarity import Similarity
from stream_classifier.device_metrics import DeviceMetrics
from stream_classifier.errors import BundleError, ModelError
from stream_classifier.metrics import Metrics
from stream_classifier.model.bundle import MODEL_FILE, WEIGHTS_FILE
from stream_classifier.model.cross_encoder import CrossEncoder
from stream_classifier.model.cuda import CudaSession
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import OnnxSession, Place, session_options

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic
    from exporting import Export

    from stream_classifier.model.bundle import Task
    from stream_classifier.model.session import Output

__all__ = ["export_tiny", "tiny_model"]

GPU = Place("cuda")
CPU = Place("cpu")
TEXTS = ["my parcel", "refund my money please now", "login", "快递 late", "password " * 30]
LABELS = LabelSet.adhoc(["delivery", "refund", "password"])


def test_embeddings_are_those_of_the_cpu(tmp_path: Path) -> None:
    on_gpu, on_cpu = (Encoder.open(tiny_bundle.build(tmp_path), place=place) for place in (GPU, CPU))
    assert on_gpu.device == "cuda:0"
    ids = on_gpu.tokenize(TEXTS).ids
    assert np.abs(on_gpu.embed(ids) - on_cpu.embed(ids)).max() < 1e-5


def test_logits_are_those_of_the_cpu(tmp_path: Path) -> None:
    bundle = tiny_entailment.build(tmp_path)
    results = [
        [
            result.score
            for result in Classifier(Entailment(CrossEncoder.open(bundle, place=place)))
            .classify([Request(text, LABELS) for text in TEXTS])
            .results
            if isinstance(result, Classification)
        ]
        for place in (GPU, CPU)
    ]
    assert len(results[0]) == len(TEXTS)
    assert results[0] == pytest.approx(results[1], abs=1e-4)


def test_many_threads_share_one_copy(tmp_path: Path) -> None:
    encoder = Encoder.open(tiny_bundle.build(tmp_path), place=GPU)
    ids = encoder.tokenize(TEXTS).ids
    alone = encoder.embed(ids)
    with ThreadPoolExecutor(8) as threads:
        for embeddings in threads.map(lambda _: encoder.embed(ids), range(200)):
            assert np.array_equal(embeddings, alone)


def test_out_of_memory_is_split_and_retried(tmp_path: Path) -> None:
    encoder = Encoder.open(tiny_bundle.build_hungry(tmp_path, max_tokens=100), place=GPU)
    classified = Classifier(Similarity(encoder, max_tokens=512)).classify(
        [Request(f"parcel late {'money ' * (number % 20)}", LABELS) for number in range(64)]
    )
    assert all(isinstance(result, Classification) for result in classified.results)
    assert classified.measures.retries["out_of_memory"] > 0


def test_a_device_that_fails_blames_no_text(tmp_path: Path) -> None:
    encoder = Encoder.open(tiny_bundle.build_broken(tmp_path), place=GPU)
    with pytest.raises(ModelError, match="the model or the device is broken"):
        Classifier(Similarity(encoder)).classify([Request("my parcel", LABELS)])


def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot use GPU 63"):
        Encoder.open(tiny_bundle.build(tmp_path), place=Place("cuda", (63,)))


@pytest.mark.parametrize(
    ("architecture", "task"),
    [("bert", "entailment"), ("structbert", "entailment"), ("xlm-roberta", "similarity"), ("modernbert", "similarity")],
)
def test_nothing_that_takes_time_runs_on_the_cpu(
    export_tiny: Export, tmp_path: Path, architecture: str, task: Task
) -> None:
    """Given a graph as the exporter writes it for GPUs, then all of its operators that work on every token run there,
    attention first: ONNX Runtime would run it on the CPU without a word if its CUDA provider had none."""
    import onnxruntime  # noqa: PLC0415 - the GPU build, which other machines do not have

    bundle = export_tiny(architecture, task, precision="fp16")
    weights = (bundle / WEIGHTS_FILE).read_bytes()

    def profiled() -> onnxruntime.SessionOptions:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / "profile")
        options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
        return options

    session = CudaSession(onnxruntime, (bundle / MODEL_FILE).read_bytes(), profiled, gpu=0, memory_mib=None)
    ids = np.ones((4, 16), np.int64)
    inputs = {put.name: ids for put in session.session.get_inputs()}
    session.run("embedding" if task == "similarity" else "logits", inputs)
    with open(session.session.end_profiling(), encoding="utf-8") as file:  # noqa: PTH123 - a name, not a path
        nodes = [event["args"] for event in json.load(file) if event.get("cat") == "Node" and "args" in event]
    places = {(node.get("provider"), node["op_name"]) for node in nodes}
    assert ("CUDAExecutionProvider", "Attention") in places
    on_cpu = {name for provider, name in places if provider == "CPUExecutionProvider"}
    assert not on_cpu & {"MatMul", "Gemm", "Attention", "MultiHeadAttention", "LayerNormalization", "Gelu"}


@pytest.mark.parametrize(("architecture", "task"), [("bert", "entailment"), ("xlm-roberta", "similarity")])
def test_an_export_in_half_precision_gives_what_the_cpu_gives(
    export_tiny: Export, architecture: str, task: Task
) -> None:
    """Given rows of several lengths, so that there is padding, then a GPU and the CPU agree within half precision."""
    bundle = export_tiny(architecture, task, precision="fp16")
    ids = [[2, *range(5, 5 + length), 3] for length in (1, 7, 30)]
    output: Output = "embedding" if task == "similarity" else "logits"
    on_gpu, on_cpu = (
        OnnxSession(bundle / MODEL_FILE, output, place=place, precision="fp16").run(
            ids, 0, [[0] * len(row) for row in ids] if architecture == "bert" else None
        )
        for place in (GPU, CPU)
    )
    assert np.abs(on_gpu - on_cpu).max() < 0.02 * np.abs(on_cpu).max()


def test_the_gauges_tell_of_the_gpu(tmp_path: Path) -> None:
    Encoder.open(tiny_bundle.build(tmp_path), place=GPU)
    metrics = Metrics()
    metrics.registry.register(DeviceMetrics([0]))
    page = generate_latest(metrics.registry).decode()
    for name in ("busy_ratio", "memory_used_bytes", "memory_total_bytes"):
        assert f'stream_classifier_device_{name}{{device="cuda:0"}}' in page


def test_a_worker_labels_a_stream(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path) -> None:
    bundle = tiny_bundle.build(tmp_path / "bundle")
    settings: dict[str, dict[str, Any]] = {
        "model": {"device": "cuda"},
        "observability": {"port": 0, "log_format": "json"},
    }
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, partitions=2, settings=settings)
    stream.publish(*(orjson.dumps({"id": number, "text": "where is my parcel"}) for number in range(2000)))
    process = Process(stream.config, tmp_path / "worker.log")
    try:
        stream.await_outcomes(2000, lambda: None)
        process.tell_to_stop()
        assert process.popen.wait(60) == 0
    finally:
        process.kill()
    assert '"device": "cuda:0"' in process.log.read_text()
    assert {orjson.loads(record.value or b"")["classification"]["label"] for record in stream.labelled} == {"delivery"}
