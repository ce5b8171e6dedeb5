"""The command `gateway`, in a process of its own: how it starts, how it ends, and what it leaves in its log."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
import tiny_bundle
from worker_config import write_config
from worker_process import PATIENCE, Process

from stream_classifier import cli
from stream_classifier.gateway.key_hashes import hash_of, new_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MARK = "zq7"
TOPICS = ("a", "b", "c")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []
    bundle = tiny_bundle.build(tmp_path / "bundle")

    def start_one(**settings: dict[str, Any]) -> Process:
        sections: dict[str, dict[str, Any]] = {"model": {"path": str(bundle)}, "gateway": {"port": 0}}
        for name, keys in settings.items():
            sections[name] = sections.get(name, {}) | keys
        config = write_config(tmp_path, "localhost:1", TOPICS, **sections)
        started.append(Process(config, tmp_path / "gateway.log", name="gateway"))
        started[-1].until(started[-1].is_ready, "ready")
        return started[-1]

    yield start_one
    for process in started:
        if process.is_running():
            process.kill()


def address(process: Process) -> str:
    return str(next(line["address"] for line in process.lines() if "address" in line))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_is_under_way_refuses_the_rest_and_ends_with_0(
    start: Callable[..., Process], number: int
) -> None:
    """Given a request of which half has been sent, when it is told to stop, then it waits for the other half."""
    process = start()
    port = int(address(process).rpartition(":")[2])
    body = b'{"text": "where is my parcel"}'
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        head = (
            f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        client.sendall(f"{head}\r\n".encode() + body[:10])
        process.until(lambda: process.metric("gateway_in_flight_requests") == 1, "it is under way")
        process.popen.send_signal(number)
        process.until(lambda: process.status("/readyz") == 503, "it says that it ends")
        refused = httpx.post(f"{address(process)}/classify", json={"text": "late"}, timeout=PATIENCE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert process.is_running()
        client.sendall(body[10:])
        answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"label":"delivery"' in answer
    assert process.popen.wait(PATIENCE) == 0
    assert process.logged("draining") == process.logged("stopped") == 1


def test_a_client_that_is_slower_than_the_deadline_gets_408_and_holds_up_nobody(start: Callable[..., Process]) -> None:
    process = start(gateway={"deadline_seconds": 2})
    port = int(address(process).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: 100\r\n\r\n{")
        process.until(lambda: process.metric("gateway_in_flight_requests") == 1, "it is under way")
        process.tell_to_stop()
        assert client.recv(1000).startswith(b"HTTP/1.1 408")
    assert process.popen.wait(PATIENCE) == 0


def test_nothing_that_clients_send_is_logged_and_no_key(start: Callable[..., Process]) -> None:
    """Given the log at its most talkative, when texts, labels, keys and nonsense come, then none of it is in it."""
    key = new_key()
    process = start(gateway={"keys": {"shop": hash_of(key)}}, observability={"log_level": "debug"})
    url, known = f"{address(process)}/classify", {"Authorization": f"Bearer {key}"}
    with httpx.Client(timeout=PATIENCE) as client:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {MARK}"}, 401), (known, 200)):
            answer = client.post(url, json={"text": f"{MARK} parcel", "labels": [MARK, "b"]}, headers=headers)
            assert answer.status_code == status
        for body in (f'{{"text": "{MARK}', f'{{"text": "{MARK} boom"}}', f'{{"{MARK}": 1}}'):
            client.post(url, content=body, headers=known | {"Content-Type": "application/json"})
            client.post(f"{url}/stream", content=body, headers=known | {"Content-Type": "application/x-ndjson"})
        client.post(f"{url}/{MARK}?{MARK}={MARK}", content=MARK, headers={MARK: MARK})
        metrics = client.get(f"{address(process)}/metrics", headers=known).text
    with socket.create_connection(("127.0.0.1", int(url.split(":")[2].partition("/")[0])), timeout=PATIENCE) as odd:
        odd.sendall(f"{MARK} no HTTP\r\n\r\n".encode())
        odd.recv(1000)
    process.tell_to_stop()
    assert process.popen.wait(PATIENCE) == 0
    log = process.log.read_text(encoding="utf-8")
    assert "stopped" in log
    for secret in (MARK, key, hash_of(key)):
        assert secret not in log
        assert secret not in metrics


def test_a_defect_answers_500_and_is_logged_by_its_place_only(tmp_path: Path) -> None:
    """Given an application that raises what quotes a text, then its client gets 500 and the log where it came from."""
    script = f"""
import asyncio, sys
from stream_classifier.gateway.recording import Recording
from stream_classifier.logs import configure
from stream_classifier.metrics import GatewayMetrics, Metrics
from stream_classifier.settings import ObservabilitySettings
configure(ObservabilitySettings(log_format="json", log_level="debug"))
async def app(scope, receive, send):
    raise ValueError("{MARK}")
async def send(message):
    print(message)
metrics = Metrics()
asyncio.run(Recording(app, GatewayMetrics(metrics))({{"type": "http"}}, None, send))
labels = {{"route": "other", "status": "500"}}
print(metrics.registry.get_sample_value("stream_classifier_gateway_requests_total", labels))
"""
    file = tmp_path / "defective.py"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert "'status': 500" in done.stdout
    assert done.stdout.endswith("1.0\n")
    (line,) = map(orjson.loads, done.stderr.splitlines())
    assert (line["event"], line["error"]) == ("defect", "ValueError")
    assert line["where"][-1].startswith("defective.py:")
    assert MARK not in done.stdout + done.stderr


def test_it_can_be_stopped_as_soon_as_it_starts(start: Callable[..., Process]) -> None:
    process = start()
    process.kill()
    config = process.log.parent / "worker.yaml"
    again = Process(config, process.log, name="gateway")
    try:
        again.until(lambda: again.logged("starting") == 1, "it starts")
        again.tell_to_stop()
        assert again.popen.wait(PATIENCE) == 0
    finally:
        if again.is_running():
            again.kill()


def test_what_keeps_it_from_starting_is_said_with_what_to_do(tmp_path: Path) -> None:
    bundle = tiny_bundle.build_broken(tmp_path / "broken")

    def ends(port: int) -> tuple[int, str]:
        config = write_config(tmp_path, "localhost:1", TOPICS, gateway={"port": port}, model={"path": str(bundle)})
        process = Process(config, tmp_path / "gateway.log", name="gateway")
        return process.popen.wait(PATIENCE), str(process.lines()[-1]["reason"])

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, reason = ends(taken.getsockname()[1])
        assert code == 2
        assert "gateway.port" in reason
    code, reason = ends(0)
    assert code == 1
    assert "model" in reason


def test_without_its_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "stream_classifier.gateway.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.run(["gateway", "--config", str(write_config(tmp_path, "localhost:1", TOPICS))]) == 2
    said = capfd.readouterr().err
    assert "uvicorn" in said
    assert "pip install '.[gateway]'" in said


def test_a_second_signal_ends_it_at_once(start: Callable[..., Process]) -> None:
    process = start()
    port = int(address(process).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        process.until(lambda: process.metric("gateway_in_flight_requests") == 1, "it is under way")
        begun = time.monotonic()
        process.tell_to_stop()
        process.until(lambda: process.status("/readyz") == 503, "it says that it ends")
        process.tell_to_stop()
        assert process.popen.wait(PATIENCE) == -signal.SIGTERM
        assert time.monotonic() - begun < PATIENCE
