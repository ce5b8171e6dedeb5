"""How long it takes from the start of a process to its first label, with the files already in the system's cache.

    python benchmarks/starts.py [--rounds 5]

`classify` labels one text by labels of the command line. The worker joins a new group; its first label is the first
record of the output that a reader gets, and an event waits for it. The first round of each warms up and does not count.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import yaml
from confluent_kafka import Consumer
from streams import create, document, fill, machine

from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.samples import label_set_path

COMMAND = [sys.executable, "-m", "stream_classifier"]


def classify() -> float:
    """Seconds of a whole command."""
    begin = time.perf_counter()
    subprocess.run(  # noqa: S603 - ours
        [*COMMAND, "classify", "--labels", "delivery,refund", "where is my parcel"], check=True, capture_output=True
    )
    return time.perf_counter() - begin


def worker(servers: str, labels: Path, directory: Path) -> float:
    """Seconds until a reader has the first label."""
    tag = uuid.uuid4().hex[:8]
    source, target = f"events-{tag}", f"labelled-{tag}"
    create(servers, source, target, f"{target}.dead-letter")
    fill(servers, source, [b'{"text":"where is my parcel"}'])
    config = directory / f"{tag}.yaml"
    quiet = {"port": 0, "log_level": "error"}
    config.write_text(
        yaml.safe_dump(document(servers, source, target, labels={"path": str(labels)}, observability=quiet))
    )
    reader = Consumer({"bootstrap.servers": servers, "group.id": tag, "auto.offset.reset": "earliest", "log_level": 0})
    reader.subscribe([target])
    reader.poll(5)  # it has its partitions
    begin = time.perf_counter()
    with subprocess.Popen([*COMMAND, "worker", "--config", str(config)]) as process:  # noqa: S603 - ours
        while reader.poll(0.02) is None:
            pass
        seconds = time.perf_counter() - begin
        process.kill()
    reader.close()
    return seconds


def main() -> None:
    """Measure both in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"classify": [], "worker in a new group": []}
    with EmbeddedCluster(1) as cluster, label_set_path() as labels, tempfile.TemporaryDirectory() as directory:
        for _ in range(options.rounds + 1):
            found["classify"].append(classify())
            found["worker in a new group"].append(worker(cluster.bootstrap_servers, labels, Path(directory)))
    print(machine())
    for name, (_, *seconds) in found.items():
        print(
            f"{name}: {statistics.median(seconds):.1f} s to the first label ({min(seconds):.1f} to {max(seconds):.1f})"
        )


if __name__ == "__main__":
    main()
