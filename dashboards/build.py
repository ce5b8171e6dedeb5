"""Writes the dashboards as Grafana reads them: python -m dashboards.build [DIRECTORY]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import labels, operations
from dashboards.frame import framed

HERE = Path(__file__).parent


def files() -> dict[str, str]:
    """The content of each file, by its name."""
    built = {
        "operations.json": framed(
            "stream-classifier-operations",
            operations.TITLE,
            "Are the workers well, do they keep up, how fast are they, and what failed?",
            "now-1h",
            operations.rows(),
            label_sets=False,
        ),
        "labels.json": framed(
            "stream-classifier-labels",
            labels.TITLE,
            "Which labels were given, how sure the model was, and what was refused.",
            "now-24h",
            labels.rows(),
            label_sets=True,
        ),
    }
    return {
        name: json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, dashboard in built.items()
    }


def main(arguments: list[str]) -> None:
    """Write them beside this file, or into the directory that is named."""
    directory = Path(arguments[0]) if arguments else HERE
    for name, content in files().items():
        (directory / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
