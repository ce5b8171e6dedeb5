"""How near a model of entailment comes to what the GPU can do, in process and in a worker.

python benchmarks/gpu.py [--size large] [--device cuda]

The model has the shape of StructBERT-large (24 layers, 1,024 wide) and random weights: speed does not depend on them.
It goes through `stream-classifier-export` as any model does. Six labels, so each text is six pairs. Prints

- the peak: half-precision products of large matrices, by PyTorch, the median of 20;
- in process: texts/s, useful tokens/s (padding left out) and their floating-point operations over the peak,
  2 * parameters outside the embeddings + 4 * layers * tokens * width for each token;
- a worker on an embedded Kafka: texts/s, and how busy nvidia-smi says the GPU was meanwhile.

`--size small --device cpu` runs the same on a CPU, in float32, to see that it works.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson
import torch
from streams import create, fill, machine, run_worker, settings
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from stream_classifier.classify.budget import suitable_tokens
from stream_classifier.classify.classifier import Classifier, Request
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.opening import open_scorer
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.session import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 256
LABELS = LabelSet.adhoc(["家居", "旅游", "科技", "军事", "游戏", "故事"], template="{}")
CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 21_123)]


class Shape(NamedTuple):
    """Of a BERT."""

    layers: int
    width: int
    heads: int


SHAPES = {"large": Shape(24, 1024, 16), "base": Shape(12, 768, 12), "small": Shape(2, 128, 2)}


def make_model(directory: Path, shape: Shape) -> int:
    """Save a model of this shape with random weights.

    Returns:
        Parameters outside the embeddings.
    """
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS]), encoding="utf-8")
    config = BertConfig(
        vocab_size=21_128,
        num_hidden_layers=shape.layers,
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        id2label={0: "entailment", 1: "neutral", 2: "contradiction"},
        label2id={"entailment": 0, "neutral": 1, "contradiction": 2},
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(directory)
    BertTokenizerFast.from_pretrained(str(directory)).save_pretrained(directory)
    return sum(p.numel() for name, p in model.named_parameters() if "embeddings" not in name)


def peak(device: str) -> float:
    """Floating-point operations a second of large matrix products."""
    size, kind = (8192, torch.float16) if device == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(size, size, dtype=kind, device=device) for _ in range(2))
    seconds = []
    for _ in range(23):
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(seconds[3:])


def texts(count: int) -> list[str]:
    """Texts of about 40 characters (lognormal), no two alike."""
    chance = random.Random(0)  # noqa: S311 - only texts
    lengths = [max(4, min(400, int(chance.lognormvariate(3.7, 0.6)))) for _ in range(count)]
    return ["".join(chance.choices(CHARACTERS, k=length)) for length in lengths]


@contextlib.contextmanager
def watched(device: str) -> Iterator[list[int]]:
    """How busy nvidia-smi says the GPU is, five times a second, in per cent."""
    seen: list[int] = []
    if device == "cpu" or (tool := shutil.which("nvidia-smi")) is None:
        yield seen
        return
    command = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0", "--loop-ms=200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:  # noqa: S603 - ours
        reader = threading.Thread(target=lambda: seen.extend(int(line) for line in watching.stdout or ()), daemon=True)
        reader.start()
        yield seen
        watching.terminate()
        reader.join()


def busy(seen: list[int]) -> str:
    """The median, the first and last second left out."""
    middle = seen[5:-5]
    return f"GPU busy {statistics.median(middle):.0f} % (nvidia-smi)" if middle else "GPU not watched"


def main() -> None:
    """Read the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="large")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=3)
    options = parser.parse_args()
    shape = SHAPES[options.size]
    name = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
    print(f"{machine()}; {name}")
    best = peak(options.device)
    print(f"peak of matrix products: {best / 1e12:.2f} TFLOP/s")

    with tempfile.TemporaryDirectory() as temporary:
        model, bundle = Path(temporary) / "model", Path(temporary) / "bundle"
        model.mkdir()
        parameters = make_model(model, shape)
        precision = "fp16" if options.device == "cuda" else "fp32"
        exporter = [sys.executable, "-m", "stream_classifier_export", str(model), str(bundle)]
        subprocess.run([*exporter, "--task", "entailment", "--precision", precision], check=True)  # noqa: S603 - ours
        scorer = open_scorer(bundle, place=Place(options.device))
        classifier = Classifier(scorer, results_cached=0)
        classifier.prepare([LABELS])
        print(f"{classifier.model} on {scorer.device}, {suitable_tokens(scorer.device):,} padded tokens a run")
        wanted = texts(options.texts)
        in_process(classifier, wanted, options.threads, options.device, shape, parameters, best)
        in_worker(classifier, wanted, options.threads, options.device)


def in_process(
    classifier: Classifier, wanted: list[str], threads: int, device: str, shape: Shape, parameters: int, best: float
) -> None:
    """Label windows of texts from several threads."""
    windows = [
        [Request(text, LABELS) for text in wanted[start : start + WINDOW]] for start in range(0, len(wanted), WINDOW)
    ]
    with ThreadPoolExecutor(threads) as pool, watched(device) as seen:
        list(pool.map(classifier.classify, windows[:threads]))  # warm
        begin = time.perf_counter()
        measures = [done.measures for done in pool.map(classifier.classify, windows)]
        seconds = time.perf_counter() - begin
    batches = [batch for each in measures for batch in each.batches]
    useful, padded = sum(batch.useful_tokens for batch in batches), sum(batch.padded_tokens for batch in batches)
    pairs = sum(batch.events for batch in batches)
    flop = useful * (2 * parameters + 4 * shape.layers * (useful / pairs) * shape.width)
    print(
        f"in process: {len(wanted) / seconds:,.0f} texts/s of six labels, {useful / seconds:,.0f} useful tokens/s "
        f"({useful / padded:.0%} of what ran), {flop / seconds / best:.0%} of the peak; {busy(seen)}"
    )


def in_worker(classifier: Classifier, wanted: list[str], threads: int, device: str) -> None:
    """Label the same texts as events."""
    with EmbeddedCluster() as cluster:
        servers = cluster.bootstrap_servers
        create(servers, "source", "target", "target.dead-letter")
        fill(servers, "source", (orjson.dumps({"text": text}) for text in wanted))
        chosen = settings(servers, "source", "target", batch={"timeout_seconds": 600})
        with watched(device) as seen:
            speed = run_worker(chosen, LABELS, classifier, len(wanted), threads=threads)
    print(f"worker: {speed:,.0f} texts/s; {busy(seen)}")


if __name__ == "__main__":
    main()
