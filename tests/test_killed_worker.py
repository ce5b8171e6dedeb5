"""An event that kills the process: three times, then it is a dead letter, and nothing else is."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
from deadly_worker import WORD
from stream import Stream, header
from worker_process import PATIENCE, Process

if TYPE_CHECKING:
    from broker import MakeTopic

LAUNCHER = str(Path(__file__).with_name("deadly_worker.py"))
EVENTS = 160
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())
DEADLY = b'{"id":"deadly","text":"my parcel is a %s"}' % WORD.encode()


def ended(process: Process) -> int:
    """Wait for a process to end."""
    return process.popen.wait(PATIENCE)


@pytest.mark.parametrize(
    ("how", "delivery"),
    [("kill", "at_least_once"), ("kill", "exactly_once"), ("hang", "exactly_once"), ("raise", "at_least_once")],
)
def test_an_event_that_kills_the_process_is_a_dead_letter_after_three_times(
    how: str, delivery: str, bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    """Given a deadly event among good ones, when each worker that meets it dies, then the fourth puts it aside.

    Killed like this, hung up in the model for longer than it may, or ended by what nobody has foreseen.
    """
    settings: dict[str, dict[str, Any]] = {
        "kafka": {"instance_id": "worker-0", "consumer": {"session.timeout.ms": 6000}},
        "batch": {"max_events": 16, "max_in_flight": 64, "timeout_seconds": 1.5},
        "cache": {"results": 0},
        "observability": {
            "port": 0,
            "log_format": "json",
            "log_level": "info",
            "tracing": True,  # to a collector that is not there
            "tracing_ratio": 0,
        },
    }
    bundle = tiny_bundle.build(tmp_path / "bundle")
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, partitions=2, settings=settings, delivery=delivery)
    for number in range(EVENTS):
        if number == EVENTS // 2:
            stream.publish(DEADLY, key=b"the key", headers=[("tenant", b"7"), TRACEPARENT], partition=0)
        stream.publish(orjson.dumps({"id": number, "text": "where is my parcel"}), partition=number % 2)

    deaths = 0
    for life in range(6):
        environment = {"DEADLY": how, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
        process = Process(stream.config, tmp_path / f"life-{life}.log", environment, command=(LAUNCHER,))
        try:
            while process.is_running() and sum(stream.committed().values()) <= EVENTS:
                process.popen.poll()
            if process.is_running():
                process.tell_to_stop()
                assert ended(process) == 0, process.log.read_text()
                break
            deaths += 1
            print(process.log.read_text())  # noqa: T201 - shown when a death too many is counted
            assert ended(process) == (-signal.SIGKILL if how == "kill" else 1), process.log.read_text()
        finally:
            process.kill()
    assert deaths == 3

    (letter,) = stream.dead_letters
    assert (letter.key, letter.value) == (b"the key", DEADLY)
    assert ("tenant", b"7") in (letter.headers or [])
    assert header(letter, "classifier-error-code") == b"killed_worker"
    came = Counter(orjson.loads(record.value or b"")["id"] for record in stream.labelled)
    assert set(came) == set(range(EVENTS))
    if delivery == "exactly_once":
        assert set(came.values()) == {1}
    assert all(WORD not in log.read_text() for log in tmp_path.glob("life-*.log"))
    (put_aside,) = (line for line in process.lines() if line["event"] == "put aside")
    assert put_aside["source"].startswith(f"{stream.input}/0/")
    assert put_aside["trace_id"] == TRACE
    assert re.fullmatch("[0-9a-f]{16}", put_aside["span_id"])
    told = {"kill": None, "hang": "a window did not come back", "raise": "a window failed"}[how]
    first_death = (tmp_path / "life-0.log").read_text()
    assert told is None or re.search(rf'"trace_id":\s*"[0-9a-f]{{32}}".*"event":\s*"{told}"', first_death)
