"""Which model a command runs: a bundle, or all that a worker's settings say."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from stream_classifier.classify.opening import open_configured, open_scorer
from stream_classifier.classify.scorer import Scorer
from stream_classifier.errors import UsageError
from stream_classifier.settings import Settings
from stream_classifier.settings_file import load_settings

ModelOption = Annotated[Path | None, typer.Option(metavar="DIR", help="A model bundle; the built-in model by default.")]
WorkersModelOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Take the model, or the cascade of two, from a worker's settings."),
]


class ChosenModel(NamedTuple):
    """A model that is yet to be opened.

    Attributes:
        bundle: Its directory; None for the built-in model. Means nothing where there are settings.
        settings: Of a worker, whose model it is; None for a bundle alone.
    """

    bundle: Path | None
    settings: Settings | None = None

    @classmethod
    def by_options(cls, model: Path | None, config: Path | None) -> "ChosenModel":
        """What the options say.

        Raises:
            UsageError: Both are given.
            SettingsError: The settings cannot be read.
        """
        if config is None:
            return cls(model)
        if model is not None:
            raise UsageError("--model and --config both name a model: give one of them")
        return cls(None, load_settings(config))

    def open(self) -> Scorer:
        """Opens it; see `open_scorer`. What a first build does is told on standard error."""
        if self.settings is not None:
            return open_configured(self.settings, _tell)
        return open_scorer(self.bundle, progress=_tell)


def _tell(line: str) -> None:
    typer.echo(line, err=True)
