"""The gateway's process: listen, load the model, serve until told to stop, answer what is under way, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn

from stream_classifier import __version__
from stream_classifier.errors import SettingsError, StalledError
from stream_classifier.gateway.app import application
from stream_classifier.gateway.batcher import Batcher
from stream_classifier.gateway.service import Service
from stream_classifier.health import Health
from stream_classifier.interpreter import tune_interpreter
from stream_classifier.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stream_classifier.classify.classifier import Classifier
    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings

_LOOK_SECONDS = 0.5  # between looks at whether all is well
_LOOP_SECONDS = 30.0  # within which the loop promises to come round
_START_SECONDS = 600.0  # the first start may have to build the embedded model
_LEAVE_SECONDS = 3  # for the last bytes of what was answered
_BACKLOG = 2048


class Loaded(NamedTuple):
    """A model that is ready.

    Attributes:
        classifier: Labels texts with it.
        threads: How many threads suit it.
    """

    classifier: Classifier
    threads: int


class Gateway:
    """One gateway, from its start to its end.

    Args:
        settings: Everything that can be set.
        label_sets: Those of the settings, by their names.
        default: The one for requests that name none and bring no labels; None: there is no such one.
        load: Loads the model; runs in a thread of its own.
        metrics: Is kept up to date, and served.

    Attributes:
        port: The port that is really listened on; None before that.
    """

    def __init__(
        self,
        settings: Settings,
        label_sets: Mapping[str, LabelSet],
        default: LabelSet | None,
        *,
        load: Callable[[], Loaded],
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._label_sets = label_sets
        self._default = default
        self._load = load
        self._metrics = metrics
        self.port: int | None = None
        self._log = logger("gateway")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = threading.Event()
        self._service: Service | None = None

    def stop(self) -> None:
        """Ask for the end; for signal handlers and other threads."""
        self._told.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._begin_to_drain)

    def run(self) -> None:
        """Serve until `stop`, then answer what is under way.

        Raises:
            StreamClassifierError: What ended it otherwise: the address is taken, the model cannot be loaded or has
                failed, or what was under way took longer than `shutdown.drain_seconds`.
        """
        with _listening(self._settings.gateway.host, self._settings.gateway.port) as listener:
            # Not uvloop, which accepts one connection a round: with 800 clients others, probes too, waited for seconds.
            asyncio.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        loop = self._loop = asyncio.get_running_loop()
        health = Health(loop.time())
        health.progress(loop.time(), _START_SECONDS)
        health.group = True  # it needs none
        service = self._service = Service(
            self._settings, self._label_sets, self._default, metrics=self._metrics, health=health, loop=loop
        )
        if self._told.is_set():
            self._begin_to_drain()
        server = _Server(
            uvicorn.Config(
                application(service),
                http="httptools",
                loop="none",
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                log_level=logging.CRITICAL + 1,  # it would log what defects quote; `Recording` tells of them
                server_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_LEAVE_SECONDS,
            )
        )
        host, port = self._settings.gateway.host, listener.getsockname()[1]
        self.port = port
        self._log.info("starting", version=__version__, address=_url(host, port), metrics=f"{_url(host, port)}/metrics")
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await self._until_told(service, loop)
            await self._drain(service)
        finally:
            server.should_exit = True
            await serving
        self._log.info("stopped")

    async def _until_told(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        draining: asyncio.Future[Any] = asyncio.create_task(service.draining.wait())
        loading = self._loading(loop)
        await asyncio.wait({draining, loading}, return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            loading.cancel()
            return
        loaded = loading.result()
        batcher = Batcher(self._settings, loaded.classifier, threads=loaded.threads, metrics=self._metrics, loop=loop)
        service.batcher = batcher
        service.health.model = True
        tune_interpreter()
        self._log.info("ready", model=loaded.classifier.model, threads=loaded.threads)
        while not draining.done():
            service.health.progress(loop.time(), _LOOP_SECONDS)
            batcher.check()
            await asyncio.wait({draining, batcher.broken}, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if batcher.broken.done():
                service.health.stopping = True
                draining.cancel()
                batcher.broken.result()

    def _loading(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Loaded]:
        """The model, which a thread loads that does not keep the process from ending."""
        loaded: asyncio.Future[Loaded] = loop.create_future()

        def finish(result: Loaded | None, error: BaseException | None) -> None:
            if loaded.done():
                return
            if result is None:
                loaded.set_exception(error or StalledError("the model was not loaded"))
            else:
                loaded.set_result(result)

        def load() -> None:
            result, error = None, None
            try:
                result = self._load()
            except BaseException as raised:  # noqa: BLE001 - raised again where it is waited for
                error = raised
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(finish, result, error)

        threading.Thread(target=load, name="loading", daemon=True).start()
        return loaded

    def _begin_to_drain(self) -> None:
        if self._service is not None:
            self._service.health.stopping = True
            self._service.draining.set()

    async def _drain(self, service: Service) -> None:
        """Wait for what is under way."""
        loop = asyncio.get_running_loop()
        seconds = self._settings.shutdown.drain_seconds
        end = loop.time() + seconds
        service.health.progress(loop.time(), seconds + _LOOP_SECONDS)
        self._log.info("draining", requests=service.texts.taken, streams=service.streams.taken)
        while service.texts.taken or service.streams.taken:
            if service.batcher is not None:
                service.batcher.check()
                if service.batcher.broken.done():
                    service.batcher.broken.result()
            if loop.time() > end:
                if service.batcher is not None:
                    service.batcher.refuse("draining")
                raise StalledError(
                    f"what was under way was not answered within shutdown.drain_seconds ({seconds:g}); its clients "
                    "have to ask again"
                )
            await asyncio.sleep(0.02)


class _Server(uvicorn.Server):
    """One that leaves signals to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)  # who comes before it serves waits, and is not turned away
        except OSError as error:
            raise SettingsError(
                f"cannot listen at {host}:{port} ({error.strerror}); set gateway.host and gateway.port "
                "(0 takes any free one)"
            ) from None
        yield listener


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
