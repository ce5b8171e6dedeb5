"""Streams of texts: answered in their order while they are sent, with a bound on what is under way."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import orjson
from running_gateway import PARCEL, PATIENCE, RunningGateway, hold, many, starting, tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["many", "starting", "tiny"]  # fixtures

LINES = "application/x-ndjson"


class Conversation:
    """A client that sends and reads in turn, which no HTTP library does."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE)
        self._reading = self._socket.makefile("rb")
        head = (
            f"POST /classify/stream HTTP/1.1\r\nHost: x\r\nContent-Type: {LINES}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self._socket.sendall(head.encode())

    def send(self, *texts: str) -> None:
        for text in texts:
            line = orjson.dumps({"text": text}) + b"\n"
            self._socket.sendall(b"%x\r\n%b\r\n" % (len(line), line))

    def end(self) -> None:
        self._socket.sendall(b"0\r\n\r\n")

    def read_head(self) -> int:
        """The status."""
        status = int(self._reading.readline().split()[1])
        while self._reading.readline().strip():
            pass
        return status

    def read(self) -> dict[str, Any] | None:
        """The next answer; None at the end."""
        size = int(self._reading.readline(), 16)
        line = self._reading.read(size + 2)
        return orjson.loads(line) if size else None

    def close(self) -> None:
        self._reading.close()
        self._socket.close()


def test_answers_come_in_the_order_of_the_lines_and_a_bad_one_leaves_the_others(
    start: Callable[..., RunningGateway],
) -> None:
    gateway = start(gateway={"stream_lines": 4, "request_bytes": 1000})
    good = [{"text": f"{PARCEL} {number}"} for number in range(40)]
    bad: list[object] = [b"{", {"text": ""}, {"text": "boom"}, {"text": "parcel " * 1000}, {"text": PARCEL, "x": 1}]
    lines: list[object] = [
        *good[:10],
        *bad,
        b"",
        b"  ",
        *good[10:],
        {"text": "my money", "labels": ["account", "refund"]},
    ]
    told = gateway.stream(lines)
    assert len(told) == 46
    assert [answer["text"] for answer in told if "text" in answer] == [line["text"] for line in good] + ["my money"]
    errors = {answer["line"]: answer["error"]["code"] for answer in told if "error" in answer}
    assert errors == {11: "not_json", 12: "text_blank", 13: "inference_failed", 14: "too_large", 15: "member_unknown"}
    assert told[-1]["label"] == "refund"
    assert gateway.metric("gateway_stream_lines_total", result="ok") == 41
    assert gateway.metric("gateway_stream_lines_total", result="failed") == 5


def test_each_text_of_a_stream_gets_what_it_gets_alone(start: Callable[..., RunningGateway]) -> None:
    gateway = start(cache={"results": 0})
    asked = [{"text": text} for text in (PARCEL, "我要退款", "password", "parcel money login", "who knows")]
    assert gateway.stream(asked) == [gateway.post(one).json() for one in asked]


def test_an_empty_stream_is_answered_with_nothing(start: Callable[..., RunningGateway]) -> None:
    assert start().stream([]) == []


def test_a_line_is_answered_while_the_next_is_still_to_come(start: Callable[..., RunningGateway]) -> None:
    with closing(Conversation(start())) as conversation:
        assert conversation.read_head() == 200
        for number in range(3):
            conversation.send(f"{PARCEL} {number}")
            answer = conversation.read()
            assert answer is not None
            assert (answer["text"], answer["label"]) == (f"{PARCEL} {number}", "delivery")
        conversation.end()
        assert conversation.read() is None


def test_no_more_lines_are_under_way_than_there_may_be(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    """Given a busy model and room for three lines, when 50 are sent, then three wait until it is idle again."""
    gateway = start(gateway={"stream_lines": 3})
    first = hold(gateway, clients)
    with closing(Conversation(gateway)) as conversation:
        texts = [f"{PARCEL} {number}" for number in range(50)]
        conversation.send(*texts)
        conversation.end()
        gateway.until(lambda: gateway.metric("gateway_waiting_texts") == 3, "three wait")
        # Others are served meanwhile; a fourth line would be there by now.
        assert [gateway.get("/readyz").status_code for _ in range(5)] == [200] * 5
        assert gateway.metric("gateway_waiting_texts") == 3
        gateway.let.set()
        assert conversation.read_head() == 200
        told = [conversation.read() for _ in texts]
        assert [answer and answer["text"] for answer in told] == texts
        assert conversation.read() is None
    assert first.result(PATIENCE).status_code == 200
    assert max(map(len, gateway.model.windows)) <= 3


def test_what_a_stream_whose_client_has_gone_wanted_is_not_computed(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start()
    first = hold(gateway, clients)
    with closing(Conversation(gateway)) as conversation:
        conversation.send(*[f"{PARCEL} {number}" for number in range(10)])
        gateway.until(lambda: gateway.metric("gateway_waiting_texts") == 10, "they wait")
    gateway.until(lambda: gateway.metric("gateway_waiting_texts") == 0, "they are given up")
    assert gateway.metric("gateway_streams") == 0
    gateway.let.set()
    assert first.result(PATIENCE).status_code == 200
    assert gateway.post({"text": f"{PARCEL} last"}).status_code == 200
    assert gateway.model.texts == [f"{PARCEL} first", f"{PARCEL} last"]


def test_over_the_bound_streams_get_503_and_other_media_types_415(start: Callable[..., RunningGateway]) -> None:
    gateway = start(gateway={"streams": 1})
    url, headers = f"{gateway.address}/classify/stream", {"Content-Type": LINES}
    with closing(Conversation(gateway)) as conversation:
        assert conversation.read_head() == 200
        refused = httpx.post(url, content=b'{"text": "late"}\n', headers=headers, timeout=PATIENCE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert "Retry-After" in refused.headers
    gateway.until(lambda: gateway.metric("gateway_streams") == 0, "the first has gone")
    assert gateway.stream([{"text": "late"}])[0]["label"] == "delivery"
    assert httpx.post(url, json={"text": "late"}, timeout=PATIENCE).status_code == 415


def test_a_stream_is_ended_when_the_gateway_is_to_end_and_says_from_which_line_on(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    """Given room for two lines, and a third that was read and waits for it, when it is to end, then that is the one."""
    gateway = start(gateway={"stream_lines": 2})
    first = hold(gateway, clients)
    with closing(Conversation(gateway)) as conversation:
        conversation.send(*[f"{PARCEL} {number}" for number in range(1, 5)])
        gateway.until(lambda: gateway.metric("gateway_waiting_texts") == 2, "they wait")
        gateway.stop()
        gateway.until(lambda: gateway.get("/readyz").status_code == 503, "it ends")
        gateway.let.set()
        assert conversation.read_head() == 200
        told = [conversation.read() for _ in range(3)]
        assert [answer and answer.get("label") for answer in told] == ["delivery", "delivery", None]
        assert told[2] is not None
        assert (told[2]["error"]["code"], told[2]["line"]) == ("draining", 3)
        assert conversation.read() is None
    assert first.result(PATIENCE).status_code == 200
    assert gateway.ended() is None
