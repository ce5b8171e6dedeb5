"""A schema registry for tests: the part of the documented REST API that the worker and confluent-kafka's clients use.

It stands in for what is not ours: it keeps schemas and numbers them, and neither parses them nor judges whether they
are compatible. With `--schema-registry URL` the tests that do not need it to misbehave run on a real one.
"""

from __future__ import annotations

import http.server
import json
import threading
import uuid
from typing import Any, Self
from urllib.parse import unquote, urlsplit


class SchemaRegistry:
    """Serves on a port of its own while the context is entered.

    Attributes:
        down: While set, each question is answered with this HTTP status.
        refuses: Subjects to which no schema can be added.
        read_only: No schema can be added to any subject.
        knows_guids: Whether it has schemas by their GUIDs, as since version 8.
        asked: Paths, in their order.
    """

    def __init__(self) -> None:
        self.down: int | None = None
        self.refuses: set[str] = set()
        self.read_only = False
        self.knows_guids = True
        self.asked: list[str] = []
        self._schemas: list[dict[str, Any]] = []  # the first has the number 1
        self._subjects: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: dict[str, Any] | None) -> None:
                status, answer = registry.answer(self.path, body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:  # noqa: PLR0911 - one return for each path
        with self._lock:
            self.asked.append(path)
            if self.down is not None:
                return self.down, {"error_code": self.down * 100, "message": "as the test wants it"}
            parts = [unquote(part) for part in urlsplit(path).path.split("/")[1:]]
            match parts:
                case ["subjects"]:
                    return 200, list(self._subjects)
                case ["schemas", "ids", number]:
                    return self._schema(int(number))
                case ["schemas", "guids", guid] if self.knows_guids:
                    return self._schema(next((n for n in range(1, len(self._schemas) + 1) if self.guid(n) == guid), 0))
                case ["subjects", subject, "versions", version] if body is None:
                    return self._version(subject, version)
                case ["subjects", subject, "versions"] if body is None:
                    return 200, list(range(1, len(self._subjects.get(subject, [])) + 1))
                case ["subjects", subject, "versions"] if body is not None:
                    return self._register(subject, body)
                case ["subjects", subject] if body is not None:
                    return self._look_up(subject, body)
                case _:
                    return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    @staticmethod
    def guid(number: int) -> str:
        """The GUID of a schema."""
        return str(uuid.UUID(int=number))

    def _schema(self, number: int) -> tuple[int, Any]:
        if not 1 <= number <= len(self._schemas):
            return 404, {"error_code": 40403, "message": "Schema not found"}
        return 200, self._schemas[number - 1]

    def _version(self, subject: str, version: str) -> tuple[int, Any]:
        numbers = self._subjects.get(subject, [])
        place = len(numbers) if version == "latest" else int(version)
        if not 1 <= place <= len(numbers):
            return 404, {"error_code": 40402, "message": "Version not found"}
        number = numbers[place - 1]
        return 200, {"subject": subject, "version": place, "id": number, **self._schemas[number - 1]}

    def _register(self, subject: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.read_only:
            return 422, {"error_code": 42205, "message": f"Subject {subject} is in read-only mode"}
        if subject in self.refuses:
            return 409, {"error_code": 409, "message": "incompatible"}
        if body not in self._schemas:
            self._schemas.append(body)
        number = self._schemas.index(body) + 1
        numbers = self._subjects.setdefault(subject, [])
        if number not in numbers:
            numbers.append(number)
        return 200, {"id": number}

    def _look_up(self, subject: str, body: dict[str, Any]) -> tuple[int, Any]:
        number = self._schemas.index(body) + 1 if body in self._schemas else 0
        if number not in self._subjects.get(subject, []):
            return 404, {"error_code": 40403, "message": "Schema not found"}
        version = self._subjects[subject].index(number) + 1
        return 200, {"subject": subject, "version": version, "id": number, **body}
