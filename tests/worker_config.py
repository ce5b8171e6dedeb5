"""A settings file for the commands, on the tests' broker and with a model that is small enough to make in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

LABELS = "name: support\nversion: 3\nlabels: [delivery, refund, account]\n"


def write_config(directory: Path, servers: str, topics: tuple[str, str, str], **sections: dict[str, Any]) -> Path:
    """Write worker.yaml, and the label set that it names.

    Args:
        directory: Where to.
        servers: The broker.
        topics: Input, output and dead letters.
        sections: More settings, over these.

    Returns:
        The settings file.
    """
    source, output, dead_letter = topics
    document: dict[str, dict[str, Any]] = {
        "kafka": {"bootstrap_servers": servers, "group_id": f"group-of-{source}"},
        "input": {"topics": [source]},
        "output": {"topic": output},
        "dead_letter": {"topic": dead_letter},
        "labels": {"path": "labels.yaml"},
        "observability": {"port": 0, "log_format": "json"},
    }
    for name, keys in sections.items():
        document[name] = document.get(name, {}) | keys
    (directory / "labels.yaml").write_text(LABELS, encoding="utf-8")
    config = directory / "worker.yaml"
    config.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return config
