"""A steady load on one worker for as long as you like: does anything grow?

PYTHONPATH=tests python -m chaos.soak --seconds 3600

Samples events/s, resident memory, open file handles and threads of the worker's process, and ends with the slope of
each over an hour (least squares, after a warm-up). Fails when one is beyond its bound.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import tiny_bundle

from chaos.scene import Scene
from stream_classifier.kafka.embedded import EmbeddedCluster

_WARM_UP = 0.2  # of the samples
_MOST_WARM_UP_SECONDS = 300
# A slope counts when it is this much an hour, and when the series has really moved by as much as its own noise.
_BOUNDS = {"memory_mib": 16.0, "handles": 4.0, "threads": 2.0}
_FLOORS = {"memory_mib": 8.0, "handles": 4.0, "threads": 2.0}


class Sample(NamedTuple):
    """What the worker was like at a moment.

    Attributes:
        seconds: Since the beginning.
        events: Results that the broker had acknowledged by then.
        memory_mib: Resident.
        handles: Open file handles.
        threads: Of the process.
    """

    seconds: float
    events: float
    memory_mib: float
    handles: int
    threads: int


def soak(seconds: float, every: float, delivery: str, rate: float) -> list[Sample]:
    """Run a worker under load, and sample it.

    Args:
        seconds: How long.
        every: Seconds between samples.
        delivery: The worker's mode.
        rate: Multiplies the load, some 320 events a second.
    """
    samples = []
    with tempfile.TemporaryDirectory() as directory, EmbeddedCluster() as cluster:
        bundle = tiny_bundle.build(Path(directory) / "bundle")
        settings: dict[str, dict[str, Any]] = {
            "batch": {"max_events": 64, "max_in_flight": 1024},
            "kafka": {"commit_interval_ms": 1000, "consumer": {}},
        }
        scene = Scene(
            cluster.bootstrap_servers,
            Path(directory),
            bundle,
            delivery=delivery,
            protocol="classic",
            seed=0,
            rate=rate,
            settings=settings,
        )
        with scene:
            scene.start("worker")
            scene.until_ready("worker")
            worker = scene.workers["worker"]
            process, begin = psutil.Process(worker.popen.pid), time.monotonic()
            while (now := time.monotonic() - begin) < seconds:
                scene.look()
                sample = Sample(
                    now,
                    worker.labelled() + worker.metric("dead_letters_total"),
                    process.memory_info().rss / 2**20,
                    process.num_fds(),
                    process.num_threads(),
                )
                samples.append(sample)
                print("{:8.0f} s {:10.0f} events {:8.1f} MiB {:4d} handles {:4d} threads".format(*sample), flush=True)
                time.sleep(every)
            scene.catch_up()
    return samples


def slopes(samples: list[Sample]) -> dict[str, float]:
    """How much each series grows in an hour, after the warm-up; and `events`, how many there are in a second."""
    warm_up = min(_WARM_UP * samples[-1].seconds, _MOST_WARM_UP_SECONDS)
    table = np.array([sample for sample in samples if sample.seconds >= warm_up], dtype=np.float64)
    by_second = np.polyfit(table[:, 0], table[:, 1:], 1)[0]
    names = Sample._fields[1:]
    return {
        name: float(slope) * (1 if name == "events" else 3600) for name, slope in zip(names, by_second, strict=True)
    }


def beyond(samples: list[Sample], found: dict[str, float]) -> list[str]:
    """Which series grow more than they may.

    In a short run noise makes a steep slope: so a series also has to have grown by an amount that is no noise.
    """
    hours = samples[-1].seconds / 3600
    return [
        f"{name} grows by {found[name]:.1f} an hour; {bound:g} is allowed"
        for name, bound in _BOUNDS.items()
        if found[name] > bound and found[name] * hours > _FLOORS[name]
    ]


def main() -> None:
    """Read the arguments, soak, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--every", type=float, default=5, help="seconds between samples")
    parser.add_argument("--delivery", default="at_least_once", choices=["at_least_once", "exactly_once"])
    parser.add_argument("--rate", type=float, default=1, help="multiplies the load, some 320 events a second")
    arguments = parser.parse_args()
    samples = soak(arguments.seconds, arguments.every, arguments.delivery, arguments.rate)
    found = slopes(samples)
    print(f"\n{arguments.delivery}, {samples[-1].seconds:.0f} s, {found['events']:.0f} events/s; in an hour:")
    for name in _BOUNDS:
        series = [getattr(sample, name) for sample in samples]
        print(f"  {name:<12} {found[name]:+9.2f}   (from {min(series):.1f} to {max(series):.1f})")
    problems = beyond(samples, found)
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
