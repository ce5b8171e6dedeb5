"""Debian's `prometheus` and `promtool`, or those that PROMETHEUS_BIN and PROMTOOL_BIN name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Series = dict[str, Any]

_PATIENCE = 30.0


def executable(name: str) -> str:
    """The path of `prometheus` or `promtool`; without it the test is skipped, and fails with `CI=true`."""
    variable = f"{name.upper()}_BIN"
    path = shutil.which(os.environ.get(variable, name))
    if path is None:
        missing = f"there is no {name}: `apt-get install prometheus`, or name it with {variable}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(f"NO REAL PROMETHEUS: {missing}")
    return path


class Prometheus:
    """A server that scrapes once a second, while the context is entered.

    Args:
        binary: What is run.
        directory: For its settings, data and log.
        port: Where it listens, on this machine only.
        jobs: The targets, `host:port`, of each job.
        rules: Files of rules.
    """

    def __init__(
        self, binary: str, directory: Path, port: int, jobs: Mapping[str, Sequence[str]], rules: Sequence[Path] = ()
    ) -> None:
        self._binary = binary
        self._directory = directory
        self._address = f"127.0.0.1:{port}"
        settings = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rule) for rule in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()
            ],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def __enter__(self) -> Self:
        self._log = (self._directory / "prometheus.log").open("w+")
        self._process = subprocess.Popen(
            [
                self._binary,
                f"--config.file={self._directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address={self._address}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + _PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                log = self._log.read()
                self.__exit__(None, None, None)
                raise AssertionError(f"Prometheus does not start: {log}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, page: str, **parameters: object) -> Any:
        """The data that a page of its API answers.

        Raises:
            ValueError: It refuses the question; says why.
        """
        url = f"http://{self._address}/api/v1/{page}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            raise ValueError(json.load(refused)["error"]) from None

    def between(self, expression: str, begin: float, end: float, step: float = 1.0) -> list[Series]:
        """The series of an expression over a time: `metric`, its labels, and `values`, of [seconds, text].

        Raises:
            ValueError: It is no PromQL.
        """
        found = self.ask("query_range", query=expression, start=begin, end=end, step=step)["result"]
        return list(found)
