"""A gateway on a port of its own, in a thread, with the tests' tiny model; and a model that is held up on purpose."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
import tiny_bundle
from prometheus_client.parser import text_string_to_metric_families
from worker_config import write_config

from stream_classifier.classify.classifier import Classified, Classifier, Request
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.classify.opening import open_configured
from stream_classifier.gateway.server import Gateway, Loaded
from stream_classifier.metrics import Metrics
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from stream_classifier.classify.scorer import Scorer
    from stream_classifier.settings import Settings

PATIENCE = 60.0
PARCEL = "where is my parcel"


class Held(Classifier):
    """The real one, that begins with each window only while it is let.

    Args:
        scorer: The model.
        settings: How many labels are listed, and how many results remembered.
        let: While this is set, windows are labelled.

    Attributes:
        windows: The texts of each window that it was given, in their order.
        failure: Is raised instead, when there is one.
    """

    def __init__(self, scorer: Scorer, settings: Settings, let: threading.Event) -> None:
        super().__init__(scorer, top_k=settings.gateway.top_k, results_cached=settings.cache.results)
        self.windows: list[list[str]] = []
        self.failure: Exception | None = None
        self._let = let

    def classify(self, requests: Sequence[Request]) -> Classified:
        self.windows.append([request.text for request in requests])
        assert self._let.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure
        return super().classify(requests)

    @property
    def texts(self) -> list[str]:
        return [text for window in self.windows for text in window]


class RunningGateway:
    """A gateway, ready; `let` is set, so it labels.

    Args:
        directory: For its settings.
        bundle: Its model.
        settings: Sections over those of the tests.
    """

    def __init__(self, directory: Path, bundle: Path, **settings: dict[str, Any]) -> None:
        sections: dict[str, dict[str, Any]] = {"model": {"path": str(bundle), "threads": 1}, "gateway": {"port": 0}}
        for name, keys in settings.items():
            sections[name] = sections.get(name, {}) | keys
        self.settings = load_settings(write_config(directory, "localhost:1", ("a", "b", "c"), **sections), {})
        self.let = threading.Event()
        self.let.set()
        self.headers: dict[str, str] = {}  # for /metrics
        self.model: Held
        self.error: BaseException | None = None
        label_sets = load_label_sets(self.settings.labels.path)
        self._gateway = Gateway(self.settings, label_sets, choose(label_sets, None), load=self._load, metrics=Metrics())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.until(lambda: self._gateway.port is not None and self.get("/readyz").status_code == 200, "ready")

    def _load(self) -> Loaded:
        scorer = open_configured(self.settings, lambda _: None)
        self.model = Held(scorer, self.settings, self.let)
        return Loaded(self.model, self.settings.model.threads or 1)

    def _run(self) -> None:
        try:
            self._gateway.run()
        except BaseException as error:  # noqa: BLE001 - what a test looks at
            self.error = error

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._gateway.port}"

    @property
    def port(self) -> int:
        assert self._gateway.port is not None
        return self._gateway.port

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.address + path, timeout=PATIENCE, **options)

    def post(self, value: object, **options: Any) -> httpx.Response:
        """Ask for one text."""
        return httpx.post(f"{self.address}/classify", json=value, timeout=PATIENCE, **options)

    def stream(self, lines: Sequence[object], **options: Any) -> list[dict[str, Any]]:
        """Ask for some texts."""
        headers = {"Content-Type": "application/x-ndjson"} | options.pop("headers", {})
        body = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
        answer = httpx.post(
            f"{self.address}/classify/stream", content=body, headers=headers, timeout=PATIENCE, **options
        )
        assert answer.status_code == 200, answer.text
        return [orjson.loads(line) for line in answer.text.splitlines()]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 when there is none."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics", headers=self.headers).text)
            for sample in family.samples
            if sample.name == f"stream_classifier_{name}" and labels.items() <= sample.labels.items()
        )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._thread.is_alive(), f"the gateway ended: {self.error!r}"
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask for the end."""
        self._gateway.stop()

    def ended(self) -> BaseException | None:
        """What it ended with, once it has."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.error


# Fixtures -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="bundle")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(name="start")
def starting(bundle: Path, tmp_path: Path) -> Iterator[Callable[..., RunningGateway]]:
    started: list[RunningGateway] = []

    def start_one(**settings: dict[str, Any]) -> RunningGateway:
        started.append(RunningGateway(tmp_path, bundle, **settings))
        return started[-1]

    yield start_one
    for gateway in started:
        gateway.let.set()
        gateway.stop()
        gateway.ended()


@pytest.fixture(name="clients")
def many() -> Iterator[ThreadPoolExecutor]:
    """Threads of which each can be a client."""
    with ThreadPoolExecutor(40) as pool:
        yield pool


def hold(gateway: RunningGateway, clients: ThreadPoolExecutor) -> Future[httpx.Response]:
    """Have the one inference thread be busy with a text until `gateway.let` is set."""
    gateway.let.clear()
    answer = clients.submit(gateway.post, {"text": f"{PARCEL} first"})
    gateway.until(lambda: f"{PARCEL} first" in gateway.model.texts, "the model is busy")
    return answer
