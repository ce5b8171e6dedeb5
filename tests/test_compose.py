"""docker-compose.yml agrees with the rest; whether it runs, `make containers-check` shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from compose_file import PULLED, SERVICES

from stream_classifier.kafka.embedded import KAFKA_VERSION
from stream_classifier.settings import ShutdownSettings

ROOT = Path(__file__).parents[1]


def test_kafka_is_the_version_that_the_other_tests_run_on() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_images_of_others_are_pinned() -> None:
    assert PULLED.keys() == {"kafka", "prometheus", "grafana"}
    assert [image for image in PULLED.values() if not re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image)] == []


def test_an_image_is_built_by_one_service() -> None:
    """Two that are built at once for one tag get into each other's way: the second finds that it exists."""
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    assert len(built) == len(set(built)) == 2


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_has_the_time_to_drain_commit_and_leave(name: str) -> None:
    grace = SERVICES[name]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > ShutdownSettings().drain_seconds + 5


def test_nothing_is_offered_to_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_looks_for_workers_by_a_name_that_they_have() -> None:
    settings = yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    ((found,),) = (job["dns_sd_configs"] for job in settings["scrape_configs"])
    for name in ("worker", "worker-gpu"):
        assert SERVICES[name]["networks"]["default"]["aliases"] == found["names"]
    assert f"EXPOSE {found['port']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
