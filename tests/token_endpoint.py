"""An OAuth token endpoint on this machine: client credentials against an unsecured JWT, as Kafka takes for development."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class TokenEndpoint(ThreadingHTTPServer):
    """Serves tokens until it is closed.

    Attributes:
        secrets: The secret of each client; a client's name is the principal's.
        lifetime: Seconds that a token is good for; below 0 it has expired when it comes.
        broken: Whether it answers with status 500.
        asked: How many requests came.
        issued: Every token that was given out.
    """

    daemon_threads = True

    def __init__(self, secrets: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secrets = dict(secrets)
        self.lifetime = 300.0
        self.broken = False
        self.asked = 0
        self.issued: list[str] = []

    @property
    def url(self) -> str:
        """Where tokens are to be asked for."""
        return f"http://127.0.0.1:{self.server_port}/token"


class _Handler(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def do_POST(self) -> None:
        self.server.asked += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scheme, _, given = (self.headers.get("Authorization") or "").partition(" ")
        name, _, secret = base64.b64decode(given).decode().partition(":") if scheme == "Basic" else ("", "", "")
        if self.server.broken:
            self._answer(500, {"error": "server_error"})
        elif not name or self.server.secrets.get(name) != secret:
            self._answer(401, {"error": "invalid_client", "error_description": "no such client, or another secret"})
        else:
            token = unsecured_token(name, self.server.lifetime)
            self.server.issued.append(token)
            self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": self.server.lifetime})

    def _answer(self, status: int, document: Mapping[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Not log."""


def unsecured_token(subject: str, lifetime: float) -> str:
    """A JWT without a signature."""
    now = time.time()
    claims = {"sub": subject, "iat": int(now) - 60, "exp": int(now + lifetime), "scope": "kafka"}
    return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."


def _part(document: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


@contextmanager
def serving(secrets: Mapping[str, str]) -> Iterator[TokenEndpoint]:
    """An endpoint that answers while the context is entered."""
    with TokenEndpoint(secrets) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield endpoint
        endpoint.shutdown()
        thread.join()
