"""The port for Prometheus and for probes: /metrics, /healthz, /readyz."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from stream_classifier.errors import SettingsError

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable
    from typing import Self
    from wsgiref.types import StartResponse, WSGIEnvironment

    from stream_classifier.health import Health
    from stream_classifier.metrics import Metrics


class _QuietHandler(WSGIRequestHandler):
    timeout = 10  # seconds; a client that connects and says nothing does not keep a thread for ever

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Not log each scrape."""


class _Server(ThreadingWSGIServer):
    daemon_threads = True
    # Each connection takes a thread and a file handle, which the worker needs for Kafka.
    at_once = 32
    request_queue_size = 64

    def server_activate(self) -> None:
        """Begin to listen."""
        self._room = threading.BoundedSemaphore(self.at_once)
        super().server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - passed through
        """Serve in a thread of its own, or hang up if too many do so already."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - passed through
        """What such a thread does."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Not print a traceback when a scraper hangs up."""


class ObservabilityServer:
    """Serves the pages from a thread of its own while the context is entered.

    Attributes:
        port: The port that is really listened on.

    Raises:
        SettingsError: The address is taken or not this machine's.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, health: Health, clock: Callable[[], float]) -> None:
        exposition = make_wsgi_app(metrics.registry, disable_compression=True)

        def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            match environ["PATH_INFO"]:
                case "/metrics":
                    return exposition(environ, start_response)  # type: ignore[no-any-return]  # it has no types
                case "/healthz":
                    problem = health.alive(clock())
                case "/readyz":
                    problem = health.ready()
                case _:
                    return _answer(start_response, HTTPStatus.NOT_FOUND, "see /metrics, /healthz or /readyz")
            status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
            return _answer(start_response, status, problem or "ok")

        try:
            self._server = make_server(host, port, application, server_class=_Server, handler_class=_QuietHandler)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"cannot serve metrics at {host}:{port} ({getattr(error, 'strerror', None) or error}); "
                "set observability.host and observability.port (0 takes any free one)"
            ) from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(start_response: StartResponse, status: HTTPStatus, text: str) -> list[bytes]:
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]
