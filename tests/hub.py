"""A hub of models on this machine: as much of its protocol as bringing a model takes."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "89abcdef01" * 4
BRANCH = "main"


class Hub:
    """What the hub has, and what it was asked for.

    Attributes:
        endpoint: Its address.
        models: Directories by their ids; each has one commit, `COMMIT`, which its branch `BRANCH` names.
        gated: Ids of models that it shows to nobody who has not accepted their terms.
        breaks_off: Files of which it sends no more than the first half.
        fetched: Files whose content it was asked for, in order.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.models: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.breaks_off: set[str] = set()
        self.fetched: list[str] = []


@contextmanager
def running() -> Iterator[Hub]:
    """A hub, until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        hub = self.server.hub  # type: ignore[attr-defined]
        assert isinstance(hub, Hub)
        return hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        match parts:
            case ["api", "models", owner, name, "revision", revision]:
                if self._may_see(f"{owner}/{name}", revision):
                    self._send_json({"id": f"{owner}/{name}", "sha": COMMIT})
            case ["api", "models", owner, name, "tree", revision]:
                if self._may_see(f"{owner}/{name}", revision):
                    self._send_json([_entry(path) for path in sorted(self.hub.models[f"{owner}/{name}"].iterdir())])
            case [owner, name, "resolve", revision, file]:
                if self._may_see(f"{owner}/{name}", revision):
                    self._send_file(self.hub.models[f"{owner}/{name}"] / file)
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound")

    def _may_see(self, model: str, revision: str) -> bool:
        if model in self.hub.gated:
            self._refuse(HTTPStatus.UNAUTHORIZED, "GatedRepo")
        elif model not in self.hub.models:
            self._refuse(HTTPStatus.UNAUTHORIZED, None)  # as the real one does: it could be somebody's own
        elif revision not in {BRANCH, COMMIT}:
            self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        else:
            return True
        return False

    def _send_json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self._begin(HTTPStatus.OK, len(body), {"Content-Type": "application/json"})
        self.wfile.write(body)

    def _send_file(self, path: Path) -> None:
        body = path.read_bytes()
        etag = hashlib.sha256(body).hexdigest()
        self._begin(HTTPStatus.OK, len(body), {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        if self.command == "GET":
            self.hub.fetched.append(path.name)
            if path.name in self.hub.breaks_off:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, code: str | None) -> None:
        self._begin(status, 0, {"X-Error-Code": code, "X-Error-Message": "no"} if code else {})

    def _begin(self, status: HTTPStatus, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tells nobody."""


def _entry(path: Path) -> dict[str, Any]:
    return {
        "type": "file",
        "path": path.name,
        "size": path.stat().st_size,
        "oid": hashlib.sha1(path.name.encode(), usedforsecurity=False).hexdigest(),
    }
