"""An OAuth token endpoint on this machine: client credentials against an unsecured JWT, as Kafka takes for testing."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class TokenEndpoint(ThreadingHTTPServer):
    """Serves tokens over TLS until it is closed.

    Args:
        identity: The certificate and the key of localhost, in one file.
        secrets: The secret of each client; a client's name is the principal's.
        port: Where to listen; 0 takes any free one.

    Attributes:
        secrets: As given; may be changed.
        lifetime: Seconds that a token is good for; below 0 it has expired when it comes.
        broken: Whether it answers with status 500.
        issued: Every token that was given out.
    """

    daemon_threads = True

    def __init__(self, identity: Path, secrets: Mapping[str, str], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity)
        # The handshake is left to the thread of each request.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.secrets = dict(secrets)
        self.lifetime = 300.0
        self.broken = False
        self.issued: list[str] = []

    @property
    def url(self) -> str:
        """Where tokens are to be asked for."""
        return f"https://localhost:{self.server_port}/token"


class _Handler(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def do_POST(self) -> None:
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
def serving(identity: Path, secrets: Mapping[str, str], port: int = 0) -> Iterator[TokenEndpoint]:
    """An endpoint that answers while the context is entered; at port 0, on any free one."""
    with TokenEndpoint(identity, secrets, port) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield endpoint
        endpoint.shutdown()
        thread.join()
