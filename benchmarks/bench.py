"""This project's worker against other ways to label the same stream, in one sitting on one broker.

    make bench
    python benchmarks/bench.py --peers .venv-peers/bin/python [--events 2000] [--rounds 3] [--workload mixed] ...

Each contender runs as a process of its own, with the same ONNX model, as many threads, the same texts, on topics of its
own; in each round all of them take their turn. How they are written: `benchmarks/contenders`. A contender starts and
warms up before the clock does, which runs from the first event published to the last result read. What each says is
compared with what this project's worker says.

With `--latency`, each is given events at 30, 70 and 90 % of the rate that it reached, sent when they are due whatever
became of those before: latency counts from there, so that waiting counts.

Writes the table as Markdown and JSON and the plots as PNG and SVG into the directory of `--out`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import orjson
import yaml
from contest import Contender, ContenderFailedError, Names, Outcome, run, worker_config
from matplotlib import pyplot as plt
from rich.console import Console
from streams import machine
from workloads import WORKLOADS

from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.cores import available_cores
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.default import default_path
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path

BATCH = 32
OURS = "stream-classifier"
PEERS = {
    "confluent-kafka loop": "plain_loop",
    "Quix Streams": "quix_streams",
    "Faust": "faust_agent",
    "Bytewax": "bytewax_flow",
    "Arroyo": "arroyo_processor",
}
LOADS = (0.3, 0.7, 0.9)
SAME_SCORE = 2e-3
"""Scores that differ by no more are the same: some add in another order, and not in float64."""


class Row(NamedTuple):
    """A contender on a workload.

    Attributes:
        contender: Its name.
        rates: Events a second of each round; none when it failed.
        equal: The share of events with this project's label and score.
        latencies: By load: milliseconds, the median and the 99th percentile.
        problem: Why it failed.
    """

    contender: str
    rates: list[float]
    equal: float
    latencies: dict[float, tuple[float, float]]
    problem: str

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates) if self.rates else 0.0


class Sitting:
    """All contenders around one broker.

    Args:
        servers: The broker.
        peers: The Python in which the other projects are installed.
        directory: For the model and the logs.
    """

    def __init__(self, servers: str, peers: Path, directory: Path) -> None:
        self.servers = servers
        self._peers = peers
        self._directory = directory
        self._labels = directory / "labels.yaml"
        self._write_model()

    def _write_model(self) -> None:
        """The built-in model as files that need nothing of this project, with the labels embedded."""
        with label_set_path() as path:
            label_set = choose(load_label_sets(path), None)
        encoder = Encoder.open(None)
        names = [label.name for label in label_set.labels]
        reads = [label.reads for label in label_set.labels]
        for file in ("model.onnx", "model.onnx.data", "tokenizer.json"):
            (self._directory / file).symlink_to(default_path() / file)
        labels = {
            "names": names,
            "vectors": encoder.embed(encoder.tokenize(reads).ids).tolist(),
            "temperature": encoder.temperature,
            "prefix": encoder.manifest.prefix,
            "max_length": encoder.manifest.max_length,
        }
        (self._directory / "labels.json").write_bytes(orjson.dumps(labels))
        described = [
            {"name": label.name, "description": label.description} if label.description else label.name
            for label in label_set.labels
        ]
        self._labels.write_text(
            yaml.safe_dump({"name": "bench", "version": 1, "labels": described}, allow_unicode=True), encoding="utf-8"
        )

    def contenders(self, chosen: str) -> list[Contender]:
        """This project in both modes, and each peer one at a time and in batches."""
        found = [
            Contender(OURS, None, partial(self._ours, "at_least_once")),
            Contender(f"{OURS}, exactly once", None, partial(self._ours, "exactly_once")),
        ]
        found += [
            Contender(name, batch, partial(self._peer, script, batch))
            for name, script in PEERS.items()
            for batch in (1, BATCH)
        ]
        return [contender for contender in found if chosen in contender.full_name or contender.name == OURS]

    def _ours(self, delivery: str, names: Names) -> list[str]:
        config = worker_config(names, self.servers, self._directory, self._labels, delivery)
        return [sys.executable, "-m", "stream_classifier", "worker", "--config", str(config)]

    def _peer(self, script: str, batch: int, names: Names) -> list[str]:
        return [
            str(self._peers),
            str(Path(__file__).parent / "contenders" / f"{script}.py"),
            *("--servers", self.servers, "--source", names.source, "--target", names.target, "--group", names.group),
            *("--model", str(self._directory), "--threads", str(available_cores()), "--batch", str(batch)),
        ]

    def play(self, workload: str, contenders: list[Contender], options: argparse.Namespace) -> list[Row]:
        """All contenders in turn, as often as there are rounds; then latencies, when they are wanted."""
        texts = WORKLOADS[workload](options.events, 1)
        rows = {contender.full_name: Row(contender.full_name, [], 0.0, {}, "") for contender in contenders}
        reference: list[tuple[str, float]] = []
        for round_ in range(options.rounds):
            for contender in contenders:
                row = rows[contender.full_name]
                if row.problem:
                    continue
                outcome = self._try(contender, texts, rows)
                if outcome is None:
                    continue
                reference = reference or outcome.labels  # this project's worker is the first
                row.rates.append(len(texts) / outcome.seconds)
                rows[contender.full_name] = row._replace(equal=_equal(outcome.labels, reference))
                _say(f"{workload}, round {round_ + 1}: {contender.full_name}: {row.rates[-1]:,.0f} events/s")
        if options.latency:
            for contender in contenders:
                for load in LOADS:
                    row = rows[contender.full_name]
                    if row.problem:
                        continue
                    rate = row.rate * load
                    outcome = self._try(contender, texts[: max(100, int(rate * options.seconds))], rows, rate=rate)
                    if outcome is not None:
                        median, late = np.percentile(outcome.latencies, [50, 99]) * 1000
                        row.latencies[load] = (float(median), float(late))
                        _say(f"{workload} at {load:.0%}: {contender.full_name}: p50 {median:.0f}, p99 {late:.0f} ms")
        return list(rows.values())

    def _try(
        self, contender: Contender, texts: list[str], rows: dict[str, Row], rate: float | None = None
    ) -> Outcome | None:
        log = self._directory / f"{contender.full_name.replace(' ', '-')}.log"
        try:
            return run(self.servers, contender, texts, log, rate=rate)
        except ContenderFailedError as error:
            rows[contender.full_name] = rows[contender.full_name]._replace(problem=str(error).partition(";")[0])
            _say(f"{contender.full_name}: {error}")
            return None


def _equal(labels: list[tuple[str, float]], reference: list[tuple[str, float]]) -> float:
    same = [
        label == wanted and abs(score - sure) <= SAME_SCORE
        for (label, score), (wanted, sure) in zip(labels, reference, strict=True)
    ]
    return sum(same) / len(same)


def _say(line: str) -> None:
    Console(stderr=True).print(line, highlight=False)


def markdown(workload: str, rows: list[Row]) -> str:
    """The table of a workload, with ratios to this project's worker."""
    ours = rows[0].rate
    loads = [load for load in LOADS if any(load in row.latencies for row in rows)]
    heads = ["", "events/s", "from", "to", f"{OURS} is", "same results"]
    heads += [f"p50 / p99 at {load:.0%}, ms" for load in loads]
    lines = [f"### {workload}", "", _line(heads), _line(["---"] + ["---:"] * (len(heads) - 1))]
    for row in sorted(rows, key=lambda row: -row.rate):
        if not row.rates:
            lines.append(_line([row.contender, "cannot run", row.problem] + [""] * (len(heads) - 3)))
            continue
        late = [
            f"{row.latencies[load][0]:,.0f} / {row.latencies[load][1]:,.0f}" if load in row.latencies else ""
            for load in loads
        ]
        figures = [f"{figure:,.0f}" for figure in (row.rate, min(row.rates), max(row.rates))]
        lines.append(_line([row.contender, *figures, f"{ours / row.rate:.2f}x", f"{row.equal:.1%}", *late]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(results: dict[str, list[Row]], out: Path) -> None:
    """Bars of events a second, a panel for each workload."""
    mpl.use("Agg")
    figure, axes = plt.subplots(1, len(results), figsize=(5.5 * len(results), 5), squeeze=False)
    for axis, (workload, rows) in zip(axes[0], results.items(), strict=True):
        ordered = sorted((row for row in rows if row.rates), key=lambda row: row.rate)
        spread = [
            [row.rate - min(row.rates) for row in ordered],
            [max(row.rates) - row.rate for row in ordered],
        ]
        colours = ["#d95f02" if row.contender.startswith(OURS) else "#7570b3" for row in ordered]
        axis.barh([row.contender for row in ordered], [row.rate for row in ordered], xerr=spread, color=colours)
        axis.set_title(workload)
        axis.set_xlabel("events/s (median; lines from the slowest to the fastest round)")
    figure.tight_layout()
    for kind in ("png", "svg"):
        figure.savefig(out / f"peers.{kind}")


def main() -> None:
    """Run all, write the tables and the plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="a Python with benchmarks/peers.txt installed")
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workload", choices=WORKLOADS, action="append")
    parser.add_argument("--only", default="", help="contenders whose name contains this, besides this project")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of latency")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": machine(),
        "threads": available_cores(),
        "load before": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("onnxruntime", "confluent-kafka", "numpy", "tokenizers")},
        "events": options.events,
        "rounds": options.rounds,
    }
    results: dict[str, list[Row]] = {}
    with EmbeddedCluster(1) as cluster, tempfile.TemporaryDirectory() as directory:
        sitting = Sitting(cluster.bootstrap_servers, options.peers.absolute(), Path(directory))
        for workload in options.workload or WORKLOADS:
            results[workload] = sitting.play(workload, sitting.contenders(options.only), options)
    tables = "\n\n".join(markdown(workload, rows) for workload, rows in results.items())
    text = f"{about['machine']}; {options.events:,} events, {options.rounds} rounds.\n\n{tables}\n"
    print(text)
    (options.out / "peers.md").write_text(text, encoding="utf-8")
    document: dict[str, Any] = {
        **about,
        "results": {name: [r._asdict() for r in rows] for name, rows in results.items()},
    }
    (options.out / "peers.json").write_bytes(
        orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    )
    plot(results, options.out)


if __name__ == "__main__":
    main()
