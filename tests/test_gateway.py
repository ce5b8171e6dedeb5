"""The gateway on a real server: what it answers, what it refuses, and what it does with many clients at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest
from running_gateway import PARCEL, PATIENCE, RunningGateway, hold, many, starting, tiny

from stream_classifier import cli
from stream_classifier.classify.labels import load_label_sets
from stream_classifier.errors import SettingsError
from stream_classifier.gateway.server import Gateway, Loaded
from stream_classifier.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

__all__ = ["many", "starting", "tiny"]  # fixtures

MARK = "zq7"  # in texts, and nowhere else


@pytest.fixture(scope="module")
def gateway(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One for all tests that only ask."""
    running = RunningGateway(tmp_path_factory.mktemp("gateway"), bundle, gateway={"port": 0, "request_bytes": 20_000})
    yield running
    running.stop()
    assert running.ended() is None


# What it answers ------------------------------------------------------------------------------------------------------


def test_a_text_gets_its_labels_best_first(gateway: RunningGateway) -> None:
    answer = gateway.post({"text": "我要退款", "labels": ["delivery", "refund", "account"]})
    assert answer.status_code == 200
    told = answer.json()
    assert list(told) == ["text", "label", "results", "label_set", "model", "truncated"]
    assert (told["text"], told["label"], told["label_set"]) == ("我要退款", "refund", "adhoc")
    assert told["model"].startswith("tiny@")
    assert told["truncated"] is False
    scores = [result["score"] for result in told["results"]]
    assert told["results"][0]["label"] == "refund"
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("asked", [{}, {"label_set": "support"}, {"label_set": "support@3"}])
def test_a_label_set_is_named_or_is_that_of_the_settings(gateway: RunningGateway, asked: dict[str, str]) -> None:
    told = gateway.post({"text": PARCEL} | asked).json()
    assert (told["label"], told["label_set"]) == ("delivery", "support@3")


def test_every_label_that_fits_is_given_in_multi_mode(gateway: RunningGateway) -> None:
    asked = {"text": "parcel refund", "labels": ["delivery", "refund", "account"], "multi": True}
    told = gateway.post(asked).json()
    assert {result["label"] for result in told["results"]} == {"delivery", "refund"}


def test_a_text_that_is_too_long_is_labelled_by_its_beginning_and_that_is_told(gateway: RunningGateway) -> None:
    told = gateway.post({"text": f"{PARCEL} " * 200}).json()
    assert (told["truncated"], told["label"]) == (True, "delivery")
    assert gateway.metric("truncated_total") >= 1


@pytest.mark.parametrize("multi", [False, True])
def test_scores_are_those_of_the_command_classify(
    gateway: RunningGateway, bundle: Path, capsysbinary: pytest.CaptureFixture[bytes], multi: bool
) -> None:
    texts = [PARCEL, "我要退款", "password login money", "nothing that it knows", "外卖 late payment"]
    arguments = ["--labels", "delivery,refund,account", "--model", str(bundle), *(["--multi"] if multi else [])]
    assert cli.run(["classify", "--json", *arguments, *texts]) == 0
    lines = [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    expected = [(line["classification"]["label"], line["classification"]["labels"]) for line in lines]
    labels = {"labels": ["delivery", "refund", "account"], "multi": multi}
    told = [gateway.post({"text": text} | labels).json() for text in texts]
    assert [(each["label"], each["results"]) for each in told] == expected


def test_a_text_that_comes_again_is_not_run_again(start: Callable[..., RunningGateway]) -> None:
    gateway = start()
    first = gateway.post({"text": PARCEL, "labels": ["delivery", "refund"]}).json()
    runs = gateway.metric("batches_total")
    assert runs >= 1
    assert gateway.post({"text": PARCEL, "labels": ["delivery", "refund"]}).json() == first
    assert gateway.metric("batches_total") == runs
    assert gateway.metric("cache_requests_total", cache="results", result="hit") == 1
    gateway.post({"text": "my money", "labels": ["delivery", "refund"]})
    assert gateway.metric("cache_requests_total", cache="label_sets", result="hit") >= 1


def test_label_sets_are_listed_without_their_examples(gateway: RunningGateway) -> None:
    (shown,) = gateway.get("/label-sets").json()["label_sets"]
    assert (shown["name"], shown["version"], shown["mode"], shown["default"]) == ("support", 3, "single", True)
    assert shown["label_set"] == "support@3"
    assert shown["labels"][0] == {"name": "delivery", "description": None}


def test_pages_for_probes_and_for_prometheus(gateway: RunningGateway) -> None:
    assert [gateway.get(path).text for path in ("/healthz", "/readyz")] == ["ok\n", "ok\n"]
    before = gateway.metric("gateway_requests_total", route="/classify", status="200")
    gateway.post({"text": PARCEL})
    gateway.get(f"/{MARK}")
    assert gateway.metric("gateway_requests_total", route="/classify", status="200") == before + 1
    assert gateway.metric("gateway_requests_total", route="other", status="404") >= 1
    assert gateway.metric("gateway_request_seconds_count", route="/classify") >= before + 1
    assert gateway.metric("ready") == 1
    assert gateway.metric("labels_assigned_total", label="delivery") >= 1
    assert MARK not in gateway.get("/metrics").text


# What it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "not_json"),
        (b'{"text": "zq7', 400, "not_json"),
        (b'{"text": "\xff"}', 400, "not_json"),
        (b'{"text": "\\ud800"}', 400, "not_json"),
        (b'{"text": "zq7", "x": NaN}', 400, "not_json"),
        (b'["zq7"]', 422, "not_an_object"),
        (b'{"text": "zq7", "zq7": 1}', 422, "member_unknown"),
        (b'{"labels": ["zq7"]}', 422, "text_missing"),
        (b'{"text": ["zq7"]}', 422, "text_not_a_string"),
        (b'{"text": null}', 422, "text_not_a_string"),
        (b'{"text": ""}', 422, "text_blank"),
        ('{"text": " \u200b\\n"}'.encode(), 422, "text_blank"),
        (b'{"text": "zq7", "labels": []}', 422, "labels_invalid"),
        (b'{"text": "zq7", "labels": "zq7"}', 422, "labels_invalid"),
        (b'{"text": "zq7", "labels": null}', 422, "labels_invalid"),
        (b'{"text": "zq7", "labels": ["zq7", "zq7"]}', 422, "labels_invalid"),
        (b'{"text": "zq7", "labels": ["zq7", " "]}', 422, "labels_invalid"),
        (b'{"text": "zq7", "labels": ["zq7", 5]}', 422, "labels_invalid"),
        (orjson.dumps({"text": MARK, "labels": [f"{MARK}{n}" for n in range(101)]}), 422, "labels_invalid"),
        (orjson.dumps({"text": MARK, "labels": [MARK * 70, "b"]}), 422, "labels_invalid"),
        (b'{"text": "zq7", "labels": ["a", "b"], "label_set": "support"}', 422, "labels_invalid"),
        (b'{"text": "zq7", "label_set": "zq7"}', 422, "label_set_unknown"),
        (b'{"text": "zq7", "label_set": ["zq7"]}', 422, "label_set_invalid"),
        (b'{"text": "zq7", "labels": ["a", "b"], "multi": "zq7"}', 422, "multi_invalid"),
        (b'{"text": "zq7", "label_set": "support", "multi": true}', 422, "multi_invalid"),
        (b'{"text": "zq7 boom"}', 422, "inference_failed"),
        (b"[" * 5000, 400, "not_json"),
    ],
)
def test_what_cannot_be_labelled_gets_a_code_and_what_to_do_and_nothing_that_it_said(
    gateway: RunningGateway, body: bytes, status: int, code: str
) -> None:
    before = gateway.metric("gateway_rejected_total", reason=code)
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{gateway.address}/classify", content=body, headers=headers, timeout=PATIENCE)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    error = answer.json()["error"]
    assert list(error) == ["code", "message"]
    assert error["code"] == code
    assert any(word in error["message"] for word in ("send", "change", "leave"))
    assert MARK not in answer.text
    assert gateway.metric("gateway_rejected_total", reason=code) == before + 1


def test_other_media_types_paths_and_methods(gateway: RunningGateway) -> None:
    form = httpx.post(f"{gateway.address}/classify", data={"text": MARK})
    assert (form.status_code, form.json()["error"]["code"]) == (415, "media_type")
    assert "application/json" in form.text
    nowhere = gateway.get(f"/{MARK}")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "not_found")
    assert MARK not in nowhere.text
    wrong = gateway.get("/classify")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "POST"


def pieces(size: int) -> Iterator[bytes]:
    """A body in pieces, of which no header says how large it is."""
    yield b'{"text": "'
    for _ in range(size // 1000):
        yield b"parcel " * 143
    yield b'"}'


def test_a_request_that_is_too_large_is_refused_by_what_it_says_and_by_what_it_is(gateway: RunningGateway) -> None:
    large = gateway.post({"text": "parcel " * 3000})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    assert "20,000" in large.text
    headers = {"Content-Type": "application/json"}
    url = f"{gateway.address}/classify"
    chunked = httpx.post(url, content=pieces(40_000), headers=headers, timeout=PATIENCE)
    assert (chunked.status_code, chunked.json()["error"]["code"]) == (413, "too_large")
    assert httpx.post(url, content=pieces(10_000), headers=headers, timeout=PATIENCE).json()["label"] == "delivery"


# Many at once ---------------------------------------------------------------------------------------------------------


def test_the_texts_of_many_clients_share_windows_and_each_gets_its_own_answer(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    """Given a busy model and 30 clients, when it is idle again, then it takes all their texts in one window."""
    gateway = start()
    first = hold(gateway, clients)
    words = {"parcel": "delivery", "money": "refund", "login": "account"}
    asked = [(f"{word} {number}", label) for number in range(10) for word, label in words.items()]
    answers = [clients.submit(gateway.post, {"text": text}) for text, _ in asked]
    gateway.until(lambda: gateway.metric("gateway_waiting_texts") == 30, "all wait")
    gateway.let.set()
    told = [answer.result(PATIENCE).json() for answer in answers]
    assert [(each["text"], each["label"]) for each in told] == asked
    assert first.result(PATIENCE).status_code == 200
    assert sorted(map(len, gateway.model.windows)) == [1, 30]
    assert gateway.metric("batch_events_sum") > gateway.metric("batch_events_count")
    assert gateway.metric("batch_events_bucket", le="1.0") < gateway.metric("batch_events_count")


def test_over_the_bound_clients_get_503_at_once_and_the_others_their_results(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    """Given room for four and a busy model, when 20 more come, then 17 are refused while it is still busy."""
    gateway = start(gateway={"max_in_flight": 4, "retry_after_seconds": 7})
    first = hold(gateway, clients)
    answers = [clients.submit(gateway.post, {"text": f"{PARCEL} {number}"}) for number in range(20)]
    gateway.until(lambda: sum(answer.done() for answer in answers) == 17, "17 are refused")
    assert gateway.metric("gateway_in_flight_requests") == 4
    refused = [answer.result() for answer in answers if answer.done()]
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.headers["Retry-After"] for answer in refused} == {"7"}
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
    gateway.let.set()
    statuses = [answer.result(PATIENCE).status_code for answer in answers]
    assert sorted(statuses) == [200] * 3 + [503] * 17
    assert first.result(PATIENCE).status_code == 200
    assert gateway.metric("gateway_rejected_total", reason="overloaded") == 17
    assert gateway.post({"text": PARCEL}).status_code == 200


def test_a_hundred_clients_that_come_again_and_again_get_200_or_503_only(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start(gateway={"max_in_flight": 8})

    def ask(client: int) -> list[int]:
        with httpx.Client(base_url=gateway.address, timeout=PATIENCE) as session:
            return [
                session.post("/classify", json={"text": f"{PARCEL} {client} {number}"}).status_code
                for number in range(5)
            ]

    statuses = [status for asked in clients.map(ask, range(100)) for status in asked]
    assert len(statuses) == 500
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > 0


def test_what_a_client_that_has_gone_wanted_is_not_computed(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start()
    first = hold(gateway, clients)
    with httpx.Client(base_url=gateway.address) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post("/classify", json={"text": f"{PARCEL} gone"}, timeout=httpx.Timeout(PATIENCE, read=1))
    gateway.until(lambda: gateway.metric("gateway_rejected_total", reason="client_gone") == 1, "it is known")
    assert gateway.metric("gateway_waiting_texts") == 0
    assert gateway.metric("gateway_in_flight_requests") == 1
    gateway.let.set()
    assert first.result(PATIENCE).status_code == 200
    assert gateway.post({"text": f"{PARCEL} last"}).status_code == 200
    assert gateway.model.texts == [f"{PARCEL} first", f"{PARCEL} last"]
    assert gateway.metric("gateway_requests_total", status="499") == 1


def test_after_its_deadline_a_request_gets_504_and_is_not_computed_if_it_still_waits(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start(gateway={"deadline_seconds": 2})
    first = hold(gateway, clients)
    late = gateway.post({"text": f"{PARCEL} late"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert "gateway.deadline_seconds" in late.text
    assert first.result(PATIENCE).status_code == 504
    gateway.let.set()
    gateway.until(lambda: gateway.post({"text": f"{PARCEL} last"}).status_code == 200, "it labels again")
    assert f"{PARCEL} late" not in gateway.model.texts


# When it starts -------------------------------------------------------------------------------------------------------


def test_before_the_model_is_loaded_it_says_so_and_can_be_stopped(gateway: RunningGateway) -> None:
    """Given a model that takes long to load, then it is alive and not ready, texts get 503, and it ends when told."""
    settings = gateway.settings  # with any free port
    loading = threading.Event()

    def load() -> Loaded:
        assert loading.wait(PATIENCE)
        raise AssertionError("it was stopped before")

    label_sets = load_label_sets(settings.labels.path)
    slow = Gateway(settings, label_sets, None, load=load, metrics=Metrics())
    thread = threading.Thread(target=slow.run, daemon=True)
    thread.start()
    gateway.until(lambda: slow.port is not None, "it listens")
    url = f"http://127.0.0.1:{slow.port}"
    assert httpx.get(f"{url}/healthz", timeout=PATIENCE).text == "ok\n"
    ready = httpx.get(f"{url}/readyz", timeout=PATIENCE)
    assert (ready.status_code, ready.text) == (503, "the model is not loaded\n")
    refused = httpx.post(f"{url}/classify", json={"text": PARCEL}, timeout=PATIENCE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "starting")
    assert "Retry-After" in refused.headers
    slow.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    loading.set()


# When it ends ---------------------------------------------------------------------------------------------------------


def test_it_answers_what_is_under_way_and_refuses_what_is_new_when_it_is_to_end(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start()
    first = hold(gateway, clients)
    waiting = clients.submit(gateway.post, {"text": f"{PARCEL} waiting"})
    gateway.until(lambda: gateway.metric("gateway_waiting_texts") == 1, "a second waits")
    gateway.stop()
    gateway.until(lambda: gateway.get("/readyz").status_code == 503, "it says that it ends")
    assert gateway.get("/readyz").text == "stopping\n"
    assert gateway.get("/healthz").status_code == 200
    refused = gateway.post({"text": f"{PARCEL} new"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert "Retry-After" in refused.headers
    gateway.let.set()
    assert [answer.result(PATIENCE).status_code for answer in (first, waiting)] == [200, 200]
    assert gateway.ended() is None
    assert f"{PARCEL} new" not in gateway.model.texts


def test_it_fails_when_what_is_under_way_takes_longer_than_it_may(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start(shutdown={"drain_seconds": 0.3})
    first = hold(gateway, clients)
    gateway.stop()
    error = gateway.ended()
    assert "shutdown.drain_seconds" in str(error)
    gateway.let.set()
    told = first.result(PATIENCE)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "draining")


def test_a_model_that_fails_ends_it_and_whoever_waits_is_told(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start()
    first = hold(gateway, clients)
    waiting = clients.submit(gateway.post, {"text": f"{PARCEL} waiting"})
    gateway.until(lambda: gateway.metric("gateway_waiting_texts") == 1, "a second waits")
    gateway.model.failure = OSError("the device is gone")
    gateway.let.set()
    told = [answer.result(PATIENCE) for answer in (first, waiting)]
    assert [answer.status_code for answer in told] == [503, 503]
    assert {answer.json()["error"]["code"] for answer in told} == {"model_lost"}
    assert gateway.ended() is gateway.model.failure


def test_a_model_that_gives_nothing_back_ends_it(
    start: Callable[..., RunningGateway], clients: ThreadPoolExecutor
) -> None:
    gateway = start(batch={"timeout_seconds": 0.5})
    first = hold(gateway, clients)
    assert first.result(PATIENCE).json()["error"]["code"] == "model_lost"
    assert "give back a window" in str(gateway.ended())
    gateway.let.set()


def test_an_address_that_is_taken_is_said(gateway: RunningGateway) -> None:
    settings = gateway.settings.model_copy(
        update={"gateway": gateway.settings.gateway.model_copy(update={"port": gateway.port})}
    )
    other = Gateway(settings, {}, None, load=lambda: pytest.fail("it listens"), metrics=Metrics())
    with pytest.raises(SettingsError, match=r"gateway\.port"):
        other.run()
