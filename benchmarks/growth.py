"""How the cost of an event grows: with the labels, the length of the text, the partitions, the backlog and the workers.

    make bench-growth
    python benchmarks/growth.py [--rounds 3] [--events 100000] [--sizes 8] [--only labels] [--out build/bench]

Labels and lengths are measured in process with the built-in model, and nothing of it is cached. Partitions, backlogs
and workers are measured end to end on one broker of its own with a null model, which is the part that is ours: the
workers of a group are processes, share the machine with the broker, and can be no faster together than its cores allow.

Writes a table and a plot of each into the directory of `--out`. The last column is the factor by which the total cost
grew, over the factor by which the size did: 1 is linear, and below 1 better than that.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import orjson
from confluent_kafka import ConsumerGroupState, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from matplotlib import pyplot as plt
from plumbing import NullClassifier, events, ours
from rich.console import Console
from streams import PARTITIONS, create, fill, machine, run_worker, settings
from workloads import tickets

from stream_classifier.classify.classifier import Classifier, Request
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.similarity import Similarity
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LABELS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
LENGTHS = (10, 20, 40, 80, 160, 320, 512)
PARTITION_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)
BACKLOGS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
WORKERS = (1, 2, 3, 4)
TEXTS = 256
"""Of a measurement in process, of which each pass takes a window."""
WORDS = [
    "parcel",
    "refund",
    "account",
    "password",
    "delivery",
    "invoice",
    "error",
    "crash",
    "screen",
    "payment",
    "card",
]


class Growth(NamedTuple):
    """What came of one measurement.

    Attributes:
        name: Of what grew.
        unit: Of its sizes.
        costs: For each size the microseconds an event costs, one a round.
        per_event: Whether the cost of one event is what may grow with the size; else the number of events grows, and
            each should cost the same.
    """

    name: str
    unit: str
    costs: dict[int, list[float]]
    per_event: bool

    def median(self, size: int) -> float:
        """Microseconds an event."""
        return statistics.median(self.costs[size])

    def factor(self, size: int) -> float:
        """Growth of the cost over growth of the size, from the smallest one on."""
        first = min(self.costs)
        grown = self.median(size) / self.median(first)
        return grown * first / size if self.per_event else grown


def in_process(label_set: LabelSet, encoder: Encoder, texts: Sequence[str]) -> float:
    """Microseconds a text in windows of 64, all caches off and the labels ready."""
    classifier = Classifier(Similarity(encoder, max_tokens=512), results_cached=0)
    classifier.prepare([label_set])
    requests = [Request(text, label_set) for text in texts]
    begin = time.perf_counter()
    for at in range(0, len(requests), 64):
        classifier.classify(requests[at : at + 64])
    return 1e6 * (time.perf_counter() - begin) / len(texts)


def grow_labels(rounds: int, counts: Sequence[int]) -> Growth:
    """Short texts, and ever more labels."""
    encoder = Encoder.open(None)
    texts = [f"{ticket} {number}" for number, ticket in zip(range(TEXTS), tickets() * TEXTS, strict=False)]
    sets = {count: LabelSet.adhoc([f"{WORDS[n % len(WORDS)]} {n}" for n in range(count)]) for count in counts}
    return _play("labels", "labels", counts, rounds, lambda count: in_process(sets[count], encoder, texts))


def grow_lengths(rounds: int, lengths: Sequence[int]) -> Growth:
    """Ten labels, and ever longer texts."""
    encoder = Encoder.open(None)
    label_set = LabelSet.adhoc(WORDS[:10])
    texts = {length: [_text(encoder, length, number) for number in range(TEXTS // 4)] for length in lengths}
    return _play("length", "tokens a text", lengths, rounds, lambda n: in_process(label_set, encoder, texts[n]))


def _text(encoder: Encoder, tokens: int, number: int) -> str:
    """A text of about so many tokens."""
    words = [str(number)]
    while len(encoder.tokenize([" ".join(words)]).ids[0]) < tokens:
        words += [WORDS[(number + len(words) + n) % len(WORDS)] for n in range(max(1, tokens // 16))]
    return " ".join(words)


def _play(name: str, unit: str, sizes: Sequence[int], rounds: int, cost: Callable[[int], float]) -> Growth:
    costs: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds):
        for size in sizes:
            costs[size].append(cost(size))
            _say(f"{name}, round {number + 1}: {size:,} {unit}: {costs[size][-1]:,.1f} us an event")
    return Growth(name, unit, costs, per_event=name in {"labels", "length"})


def grow_partitions(servers: str, rounds: int, counts: Sequence[int], count: int) -> Growth:
    """As many events, in ever more partitions of the input."""
    admin = AdminClient({"bootstrap.servers": servers})
    for wide in counts:
        admin.create_topics([NewTopic(f"wide-{wide}", wide, 1)])[f"wide-{wide}"].result()
        fill(servers, f"wide-{wide}", events(count))
    return _play("partitions", "partitions", counts, rounds, lambda wide: _null(servers, f"wide-{wide}", count))


def grow_backlog(servers: str, rounds: int, sizes: Sequence[int], count: int) -> Growth:
    """Ever more events that wait when the worker begins; of more than `count`, one round."""
    costs: dict[int, list[float]] = {}
    for size in sizes:
        topic = f"backlog-{size}"
        create(servers, topic)
        fill(servers, topic, events(size))
        costs[size] = [_null(servers, topic, size) for _ in range(rounds if size <= count else 1)]
        _say(f"backlog of {size:,}: {statistics.median(costs[size]):,.1f} us an event")
        _delete(servers, topic)
    return Growth("backlog", "events", costs, per_event=False)


def _null(servers: str, source: str, count: int) -> float:
    target = f"labelled-{uuid.uuid4().hex[:8]}"
    create(servers, target, f"{target}.dead-letter")
    cost = 1e6 / ours(servers, source, target, count)
    _delete(servers, target)
    return cost


def _delete(servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})  # kept: its answers never come when it is gone
    admin.delete_topics([topic])[topic].result()


def grow_workers(servers: str, rounds: int, workers: Sequence[int], count: int) -> Growth:
    """As many events, and ever more workers of one group, each a process."""
    return _play("workers", "workers", workers, rounds, lambda number: _together(servers, number, count))


def _together(servers: str, workers: int, count: int) -> float:
    """Microseconds an event of a group, from when all have been published and all members have their partitions."""
    tag = uuid.uuid4().hex[:8]
    source, target, group = f"shared-{tag}", f"labelled-{tag}", f"group-{tag}"
    create(servers, source, target, f"{target}.dead-letter")
    command = [sys.executable, __file__, "--member", orjson.dumps([servers, source, target, group]).decode()]
    members = [subprocess.Popen(command) for _ in range(workers)]  # noqa: S603 - this file
    try:
        while not _settled(servers, group, workers):
            time.sleep(0.2)
        fill(servers, source, events(count))
        begin, done = time.perf_counter(), _ends(servers, target)
        while _ends(servers, target) < count:
            time.sleep(0.01)
        return 1e6 * (time.perf_counter() - begin) / (count - done)
    finally:
        for member in members:
            member.kill()
            member.wait()


def _settled(servers: str, group: str, members: int) -> bool:
    """Whether so many members have their partitions."""
    admin = AdminClient({"bootstrap.servers": servers})
    found = admin.describe_consumer_groups([group])[group].result()
    return found.state == ConsumerGroupState.STABLE and len(found.members) == members


def _ends(servers: str, topic: str) -> int:
    """Records of a topic, as its partitions' ends tell."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client says nothing of its type
    asked = {TopicPartition(topic, number): latest for number in range(PARTITIONS)}
    admin = AdminClient({"bootstrap.servers": servers})
    return sum(future.result().offset for future in admin.list_offsets(asked).values())


def be_member(servers: str, source: str, target: str, group: str) -> None:
    """Label with a null model until killed."""
    chosen = settings(servers, source, target, kafka={"bootstrap_servers": servers, "group_id": group})
    run_worker(chosen, LabelSet.adhoc(["delivery", "refund"]), NullClassifier(), sys.maxsize, threads=1)


def _say(line: str) -> None:
    Console(stderr=True).print(line, highlight=False)


def table(growth: Growth) -> str:
    """In Markdown."""
    lines = [f"### {growth.name}", "", f"| {growth.unit} | us an event | from | to | growth over linear |"]
    lines.append("|---:|---:|---:|---:|---:|")
    for size, costs in growth.costs.items():
        figures = [f"{figure:,.1f}" for figure in (growth.median(size), min(costs), max(costs))]
        lines.append(f"| {size:,} | {' | '.join(figures)} | {growth.factor(size):.2f} |")
    return "\n".join(lines)


def plot(grown: Iterable[Growth], out: Path) -> None:
    """A panel for each, both axes logarithmic."""
    mpl.use("Agg")
    panels = list(grown)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 4), squeeze=False)
    for axis, growth in zip(axes[0], panels, strict=True):
        sizes = list(growth.costs)
        axis.loglog(sizes, [growth.median(size) for size in sizes], marker="o", color="#d95f02", label="measured")
        if growth.per_event:
            last = growth.median(sizes[-1])
            axis.loglog(sizes, [last * size / sizes[-1] for size in sizes], ":", color="#7570b3", label="linear")
            axis.legend()
        axis.set_ylim(bottom=min(growth.median(size) for size in sizes) / 3, top=axis.get_ylim()[1] * 2)
        axis.set_title(growth.name)
        axis.set_xlabel(growth.unit)
        axis.set_ylabel("microseconds an event")
    figure.tight_layout()
    for kind in ("png", "svg"):
        figure.savefig(out / f"growth.{kind}")


def main() -> None:
    """Measure what is asked for; write tables and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=100_000, help="with a null model")
    parser.add_argument("--sizes", type=int, default=100, help="of each, the smallest ones")
    parser.add_argument("--only", choices=("labels", "length", "partitions", "backlog", "workers"), action="append")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--member", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.member:
        be_member(*orjson.loads(options.member))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rounds, few, count = options.rounds, options.sizes, options.events
    with EmbeddedCluster(1) as cluster:
        servers = cluster.bootstrap_servers
        ways: dict[str, Callable[[], Growth]] = {
            "labels": lambda: grow_labels(rounds, LABELS[:few]),
            "length": lambda: grow_lengths(rounds, LENGTHS[:few]),
            "partitions": lambda: grow_partitions(servers, rounds, PARTITION_COUNTS[:few], count),
            "backlog": lambda: grow_backlog(servers, rounds, BACKLOGS[:few], count),
            "workers": lambda: grow_workers(servers, rounds, WORKERS[:few], count),
        }
        grown = [grow() for name, grow in ways.items() if not options.only or name in options.only]
    text = f"{machine()}; {rounds} rounds.\n\n" + "\n\n".join(map(table, grown)) + "\n"
    print(text)
    (options.out / "growth.md").write_text(text, encoding="utf-8")
    found = {growth.name: growth._asdict() for growth in grown}
    (options.out / "growth.json").write_bytes(
        orjson.dumps({"machine": machine(), "growth": found}, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    )
    plot(grown, options.out)


if __name__ == "__main__":
    main()
