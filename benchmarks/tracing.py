"""What tracing costs: the seam while it is off, and spans of a share of the events and of all, with a null model.

    python benchmarks/tracing.py [--events 100000] [--rounds 5]

First the calls of the worker to `Untraced`, by themselves, for each event, with batches of 256. Then whole workers on
one broker in one run: off, off again (which shows the noise), one event in a hundred, and all. They alternate, each
with a group and topics of its own; a figure is the median of the ratios to the first of the same round. The spans go to
a collector in another process that takes everything and keeps nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from plumbing import NullClassifier, events
from streams import create, fill, machine, run_worker, settings

from stream_classifier import logs
from stream_classifier.classify.labels import LabelSet
from stream_classifier.cli.tracing import open_tracing
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.settings import ObservabilitySettings
from stream_classifier.tracing import Untraced

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

BATCH = 256
RUNS: dict[str, dict[str, object]] = {
    "off": {"tracing": False},
    "off again": {"tracing": False},
    "ratio 0.01": {"tracing": True, "tracing_ratio": 0.01},
    "ratio 1": {"tracing": True, "tracing_ratio": 1},
}


class Collector(BaseHTTPRequestHandler):
    """Takes what comes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read it, and say that all is well."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Not log each request."""


def collect(port: Connection) -> None:
    """Serve in a process of its own, and tell the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    port.send(server.server_address[1])
    server.serve_forever()


def seam(rounds: int = 2000) -> float:
    """Nanoseconds an event of what a worker calls for a batch that is polled, labelled, produced and committed."""
    untraced = Untraced()
    begin = time.perf_counter_ns()
    for number in range(rounds):
        untraced.polled((), 0.0)
        untraced.handed_out(number, ())
        untraced.taken_back(number, None)
        untraced.acknowledged(())
        untraced.committed(number)
        untraced.committing(number)
    return (time.perf_counter_ns() - begin) / rounds / BATCH


def one(servers: str, name: str, number: int, count: int) -> float:
    """Events a second of one worker."""
    target = f"{name.replace(' ', '-')}-{number}"
    create(servers, target, f"{target}.dead-letter")
    chosen = settings(servers, "events", target, observability=RUNS[name])
    tracing = open_tracing(chosen)
    labels = LabelSet.adhoc(["delivery", "refund"])
    try:
        return run_worker(chosen, labels, NullClassifier(), count, threads=2, tracing=tracing)
    finally:
        tracing.close()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logs.configure(ObservabilitySettings(log_level="error"))
    print(machine())
    print(f"the seam, off: {statistics.median(seam() for _ in range(9)):.1f} ns an event, in batches of {BATCH}")
    ours, theirs = multiprocessing.Pipe()
    collector = multiprocessing.get_context("spawn").Process(target=collect, args=(theirs,), daemon=True)
    collector.start()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{ours.recv()}"
    print(f"{options.events:,} events of about 150 bytes without a context, 2 inference threads with a null model")
    print("round   " + "   ".join(f"{name + ', events/s':>20}" for name in RUNS))
    ratios: dict[str, list[float]] = {name: [] for name in RUNS}
    with EmbeddedCluster(1) as cluster:
        servers = cluster.bootstrap_servers
        create(servers, "events")
        fill(servers, "events", events(options.events))
        for number in range(options.rounds):
            rates = {name: one(servers, name, number, options.events) for name in RUNS}
            for name, rate in rates.items():
                ratios[name].append(rate / rates["off"])
            print(f"{number + 1:>5}   " + "   ".join(f"{rate:>20,.0f}" for rate in rates.values()))
    for name, found in list(ratios.items())[1:]:
        print(f"{name:>10}: {statistics.median(found):.2f} of off (from {min(found):.2f} to {max(found):.2f})")
    collector.terminate()


if __name__ == "__main__":
    main()
