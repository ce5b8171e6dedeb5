"""What docker-compose.yml says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

SERVICES: Final[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "docker-compose.yml").read_text(encoding="utf-8")
)["services"]
OWN_IMAGE: Final = "stream-classifier"
"""The name of this repository's own image, without a tag."""
PULLED: Final[dict[str, str]] = {
    name: service["image"] for name, service in SERVICES.items() if service["image"].partition(":")[0] != OWN_IMAGE
}
"""The image of each service that runs somebody else's."""
