"""Where a model runs. On a machine without a GPU: what is said when one is asked for (see tests/gpu for the rest)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import tiny_bundle
import tiny_entailment
from prometheus_client import generate_latest
from typer.testing import CliRunner
from worker_config import write_config

from stream_classifier.classify.budget import CPU_TOKENS, GPU_TOKENS, suitable_tokens
from stream_classifier.cli import app
from stream_classifier.device_metrics import DeviceMetrics
from stream_classifier.errors import BundleError, SettingsError
from stream_classifier.metrics import Metrics
from stream_classifier.model.bundle import read_manifest, write_manifest
from stream_classifier.model.cross_encoder import CrossEncoder
from stream_classifier.model.cuda import PROVIDER, why_no_cuda
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import Place
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from pathlib import Path

ON_GPU = Place("cuda")


@pytest.fixture(autouse=True)
def _without_gpu() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime is the GPU build here: make gpu-check")


def test_a_gpu_that_the_build_cannot_use_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^model\.device is cuda: .* without CUDA: .*'\.\[gpu\]'.* to cpu$"):
        Encoder.open(tiny_bundle.build(tmp_path), place=ON_GPU)


def test_the_same_for_pairs(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="without CUDA"):
        CrossEncoder.open(tiny_entailment.build(tmp_path), place=ON_GPU)


def test_a_build_whose_gpus_have_no_attention_is_too_old() -> None:
    """By what such a build says of itself: none can be installed beside the one that runs these tests."""

    def build(version: str) -> SimpleNamespace:
        return SimpleNamespace(__version__=version, get_available_providers=lambda: [PROVIDER])

    assert (why_no_cuda(build("1.24.4"), "fp16") or "").endswith("'onnxruntime-gpu>=1.25'`)")
    assert [why_no_cuda(build(version), "fp16") for version in ("1.25.0", "1.31.1", "2.0.0")] == [None] * 3


def test_integer_weights_are_for_the_cpu(tmp_path: Path) -> None:
    directory = tiny_bundle.build(tmp_path)
    write_manifest(directory, read_manifest(directory).model_copy(update={"precision": "int7"}))
    with pytest.raises(BundleError, match=r"integer weights is for the CPU: .* --precision fp16"):
        Encoder.open(directory, place=ON_GPU)
    assert Encoder.open(directory, place=Place("auto")).device == "cpu"


@pytest.mark.parametrize("command", ["worker", "check"])
def test_the_commands_say_it_in_a_line(command: str, tmp_path: Path) -> None:
    bundle = tiny_bundle.build(tmp_path / "bundle")
    config = write_config(tmp_path, "localhost:1", ("in", "out", "dead"), model={"path": str(bundle), "device": "cuda"})
    done = CliRunner().invoke(app, [command, "--config", str(config), *(["--offline"] if command == "check" else [])])
    assert done.exit_code == 1
    assert "without CUDA" in done.output + done.stderr
    assert "Traceback" not in done.output + done.stderr


def test_runs_are_as_large_as_suits_the_device() -> None:
    assert (suitable_tokens("cpu"), suitable_tokens("cuda:0")) == (CPU_TOKENS, GPU_TOKENS)


def test_without_a_driver_the_gauges_are_empty() -> None:
    metrics = Metrics()
    metrics.registry.register(DeviceMetrics([0]))
    assert b"stream_classifier_device_busy_ratio{" not in generate_latest(metrics.registry)


@pytest.mark.parametrize("ids", ["[]", "[-1]"])
def test_gpus_are_numbers(ids: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, "localhost:1", ("in", "out", "dead"))
    config.write_text(config.read_text() + f"\nmodel:\n  device_ids: {ids}\n")
    with pytest.raises(SettingsError, match=r"model\.device_ids"):
        load_settings(config)
