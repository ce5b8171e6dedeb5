"""What sizes a deployment: the cost of a text by its length, what a worker takes, and a plan made of them.

    python benchmarks/sizing.py [--cores 2]
    python benchmarks/sizing.py --plan --rate 500 --cost 5 [--cores 2] [--outage 60]

Without `--plan` it measures, with the built-in model and the labels of the sample tickets:

- CPU time for each text, at several lengths, with one thread and texts of equal length, and a curve through it: each
  token costs, and each pair of tokens. CPU time and not the clock's, as that depends less on who else uses the machine;
- characters for each token in the sample tickets, by script;
- a worker in a process of its own on the embedded broker: time from its start until it is ready, and until its first
  label; memory; CPU time for each event, Kafka and JSON included; time from SIGTERM, under load, to its end.

With `--plan` it works out workers, partitions and catching up from the CPU time of an event; nothing runs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
import psutil
import yaml
from streams import create, document, fill, machine
from workloads import tickets

from stream_classifier.classify.classifier import Classifier, Request
from stream_classifier.classify.labels import LabelSet, choose, load_label_sets
from stream_classifier.classify.opening import open_scorer
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
_LABELLED = "stream_classifier_events_labelled_total"
BUSY = 0.6  # of the cores, in a plan, when the stream is at its usual rate
FIRST_WIDE = "\u2e80"  # from here on Unicode has the scripts of East Asia
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 60, 72, 96, 120, 144, 180, 240, 360)  # with many divisors each


class Curve(NamedTuple):
    """CPU time for a text of t tokens, in ms: fixed + each * t + pair * t * t."""

    fixed: float
    each: float
    pair: float

    def of(self, tokens: float) -> float:
        """For a text of so many tokens."""
        return self.fixed + self.each * tokens + self.pair * tokens * tokens


# What a text costs ----------------------------------------------------------------------------------------------------


def texts_of(encoder: Encoder, tokens: int, count: int) -> tuple[list[str], float]:
    """Pieces of the sample tickets, all about so many tokens long.

    Returns:
        The texts, and their tokens in the mean.
    """
    ticket = " ".join(tickets())
    starts = [number * len(ticket) // count for number in range(count)]
    sizes = [2.0 * tokens] * count  # in characters
    for _ in range(6):
        texts = [(2 * ticket)[start : start + max(1, round(size))] for start, size in zip(starts, sizes, strict=True)]
        lengths = [len(row) for row in encoder.tokenize(texts).ids]
        sizes = [size * tokens / length for size, length in zip(sizes, lengths, strict=True)]
    return texts, statistics.mean(lengths)


def cost_at(classifier: Classifier, labels: LabelSet, texts: list[str], seconds: float) -> float:
    """CPU time for a text, in ms: the median of runs of a window that take so many seconds together."""
    window = [Request(text, labels) for text in texts]
    classifier.classify(window)
    runs: list[float] = []
    end = time.perf_counter() + seconds
    while not runs or time.perf_counter() < end:
        begin = time.process_time()
        classifier.classify(window)
        runs.append(1000 * (time.process_time() - begin) / len(window))
    return statistics.median(runs)


def fit(costs: dict[float, float]) -> Curve:
    """The curve with the least squares of relative errors."""
    tokens, measured = np.array(list(costs)), np.array(list(costs.values()))
    matrix = np.stack([tokens**power / measured for power in range(3)], axis=1)
    return Curve(*map(float, np.linalg.lstsq(matrix, np.ones(len(costs)), rcond=None)[0]))


def measure_texts(seconds: float) -> None:
    """Print the table of lengths, and the curve through it."""
    with label_set_path() as path:
        labels = choose(load_label_sets(path), None)
    encoder = Encoder.open(None)
    classifier = Classifier(open_scorer(None), results_cached=0)
    classifier.prepare([labels])
    costs = {}
    for length in LENGTHS:
        texts, tokens = texts_of(encoder, length, max(8, 2048 // length))
        costs[tokens] = cost_at(classifier, labels, texts, seconds)
    curve = fit(costs)
    print("tokens   CPU ms a text   texts/s a core   curve")
    for tokens, cost in costs.items():
        print(f"{tokens:>6.0f}   {cost:>13.2f}   {1000 / cost:>14.0f}   {curve.of(tokens) / cost - 1:+.0%}")
    print(f"curve: {curve.fixed:.2f} ms + {curve.each:.3f} ms * tokens + {1000 * curve.pair:.3f} us * tokens * tokens")
    for script, wide in (("Latin script", False), ("Chinese", True)):
        own = [text for text in tickets() if (sum(sign >= FIRST_WIDE for sign in text) > len(text) / 2) == wide]
        ids = encoder.tokenize(own).ids
        print(f"{script}: {sum(map(len, own)) / sum(len(row) - 2 for row in ids):.1f} characters a token")


# What a worker takes --------------------------------------------------------------------------------------------------


def answers(port: int, path: str) -> str | None:
    """A page of the worker's, or None while it has none or says no."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as page:
            return str(page.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def labelled(port: int) -> float:
    """Events that the worker has labelled."""
    lines = (answers(port, "/metrics") or "").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(_LABELLED))


def measure_worker(cores: int, events: int, port: int) -> None:
    """Run a worker until it has labelled all events, and print what it took."""
    texts = tickets()
    values = [
        orjson.dumps({"text": f"{text} {number}"})
        for number, text in zip(range(events), itertools.cycle(texts), strict=False)
    ]
    with EmbeddedCluster(1) as cluster, label_set_path() as labels, tempfile.TemporaryDirectory() as directory:
        servers = cluster.bootstrap_servers
        create(servers, "events", "labelled", "labelled.dead-letter")
        fill(servers, "events", values)
        config = Path(directory) / "worker.yaml"
        config.write_text(
            yaml.safe_dump(
                document(
                    servers,
                    "events",
                    "labelled",
                    labels={"path": str(labels)},
                    model={"threads": cores},
                    cache={"results": 0},
                    observability={"port": port, "log_level": "error"},
                )
            )
        )
        command = [sys.executable, "-m", "stream_classifier", "worker", "--config", str(config)]
        begin = time.perf_counter()
        with subprocess.Popen(command) as process:  # noqa: S603 - ours
            worker = psutil.Process(process.pid)

            def until(condition: Callable[[], object]) -> float:
                while not condition():
                    if process.poll() is not None:
                        sys.exit("the worker ended; its log says why")
                    time.sleep(0.05)
                return time.perf_counter() - begin

            ready = until(lambda: answers(port, "/readyz"))
            first = until(lambda: labelled(port))
            cpu, before, clock = sum(worker.cpu_times()[:2]), labelled(port), time.perf_counter()
            memory = []

            def mostly_labelled() -> bool:
                memory.append(worker.memory_info().rss)
                return labelled(port) >= 0.8 * events  # so that it is told to stop while there is work

            until(mostly_labelled)
            done, seconds = labelled(port) - before, time.perf_counter() - clock
            used = sum(worker.cpu_times()[:2]) - cpu
            told = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            process.wait()
            left = time.perf_counter() - told
    tokens = [len(row) for row in Encoder.open(None).tokenize([orjson.loads(value)["text"] for value in values]).ids]
    print(f"worker, {cores} inference threads, {events:,} events of {statistics.mean(tokens):.0f} tokens in the mean:")
    print(f"  {ready:.1f} s until ready, {first:.1f} s until the first label, {left:.1f} s from SIGTERM to its end")
    print(f"  {1000 * used / done:.2f} CPU ms an event, all included; {done / seconds:,.0f} events/s by the clock")
    print(f"  {max(memory) / 2**20:.0f} MiB of memory at most")


# The plan -------------------------------------------------------------------------------------------------------------


def plan(cost: float, *, rate: float, cores: int, outage: float) -> None:
    """Print workers and partitions for a stream.

    Args:
        cost: CPU time of an event, in ms.
        rate: Events a second, on average over the busiest hour.
        cores: Of each worker.
        outage: Minutes without workers, to be caught up with.
    """
    one = cores * 1000 / cost
    workers = max(1, math.ceil(rate / (BUSY * one)))
    most = 2 * workers  # to catch up with, and to grow into
    partitions = next((step for step in STEPS if step >= most), most)
    behind = 60 * outage * rate
    print(f"a worker of {cores} cores: {one:,.0f} events/s")
    print(f"workers: {workers}, busy {rate / (workers * one):.0%} of the time; {workers * cores} cores")
    print(f"partitions: {partitions}, so {partitions} workers at most")
    print(f"lagThreshold: {30 * one:,.0f} (half a minute's work of one worker)")
    print(f"after {outage:g} min without workers: {behind:,.0f} events behind")
    for number in (workers, partitions):
        print(f"  caught up by {number} workers in {behind / (number * one - rate) / 60:.0f} min")


def main() -> None:
    """Measure, or plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2, help="inference threads of a worker")
    parser.add_argument("--seconds", type=float, default=5, help="of each length's measurement")
    parser.add_argument("--events", type=int, default=5000, help="that the worker labels")
    parser.add_argument("--port", type=int, default=19108, help="of the worker's metrics")
    parser.add_argument("--plan", action="store_true", help="work out workers and partitions")
    parser.add_argument("--rate", type=float, default=500, help="events a second")
    parser.add_argument("--cost", type=float, help="CPU ms of an event, as measured")
    parser.add_argument("--outage", type=float, default=60, help="minutes without workers")
    options = parser.parse_args()
    if options.plan:
        if options.cost is None:
            parser.error("--plan takes --cost, as measured without --plan on a machine of the same kind")
        plan(options.cost, rate=options.rate, cores=options.cores, outage=options.outage)
        return
    print(machine())
    measure_texts(options.seconds)
    measure_worker(options.cores, options.events, options.port)


if __name__ == "__main__":
    main()
