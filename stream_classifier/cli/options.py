"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The settings file; config/worker.yaml is an example.")
]
