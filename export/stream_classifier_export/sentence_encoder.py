"""What sentence-transformers' files say about a model: its pooling, its longest text, its prompt."""

from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from stream_classifier.errors import ExportError
from stream_classifier_export.request import Pooling
from stream_classifier_export.source import read_json

_POOLINGS: Final[dict[str, Pooling]] = {"mean": "mean", "cls": "cls"}
_OLDER: Final = "pooling_mode_"
_OLDER_NAMES: Final = {"mean_tokens": "mean", "cls_token": "cls"}


class SentenceEncoder(NamedTuple):
    """What is said; None where nothing is.

    Attributes:
        pooling: How tokens' vectors become a text's.
        max_length: The longest text in tokens, special tokens included.
        prompt: Put before every text, unless something else is asked for.
    """

    pooling: Pooling | None = None
    max_length: int | None = None
    prompt: str | None = None


def sentence_encoder(directory: Path) -> SentenceEncoder:
    """Reads modules.json and what it names, if it is there.

    Raises:
        ExportError: The model has a module, or a pooling, that the exporter does not have.
    """
    if not (directory / "modules.json").is_file():
        return SentenceEncoder()
    pooling, max_length = None, None
    for module in _modules(directory):
        kind, place = str(module.get("type", "")).rpartition(".")[2], directory / str(module.get("path", ""))
        match kind:
            case "Transformer":
                settings = _read_if_there(place / "sentence_bert_config.json")
                max_length = settings.get("max_seq_length")
                if settings.get("do_lower_case"):
                    raise ExportError(
                        f"{directory.name} lower-cases texts before its tokenizer (do_lower_case in"
                        " sentence_bert_config.json), which a bundle cannot say: put it into its tokenizer.json"
                    )
            case "Pooling":
                pooling = _pooling(read_json(place / "config.json"), directory.name)
            case "Normalize":
                pass  # embeddings are always made unit length
            case _:
                raise ExportError(
                    f"{directory.name} has a module that is not exported, {kind} in modules.json: choose a model of"
                    " Transformer, Pooling and Normalize"
                )
    return SentenceEncoder(pooling, max_length, _prompt(directory))


def _modules(directory: Path) -> list[dict[str, Any]]:
    try:
        content = orjson.loads((directory / "modules.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"{directory / 'modules.json'} cannot be read as JSON: get the file again") from error
    if not isinstance(content, list) or not all(isinstance(module, dict) for module in content):
        raise ExportError(f"{directory / 'modules.json'} holds no list of modules: get the file again")
    return content


def _pooling(settings: dict[str, Any], name: str) -> Pooling:
    """The one that is set: `pooling_mode` names it, or, as it used to be, one of several is true."""
    given = settings.get("pooling_mode")
    named = [given] if isinstance(given, str) else given
    if named is None:
        set_to_true = [key.removeprefix(_OLDER) for key, value in settings.items() if key.startswith(_OLDER) and value]
        named = [_OLDER_NAMES.get(mode, mode) for mode in set_to_true]
    if len(named) != 1 or named[0] not in _POOLINGS:
        raise ExportError(
            f"{name} pools tokens by {' and '.join(map(str, named)) or 'nothing'}: only mean and cls are exported"
        )
    return _POOLINGS[named[0]]


def _prompt(directory: Path) -> str | None:
    settings = _read_if_there(directory / "config_sentence_transformers.json")
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    return prompts.get(default) if default is not None else None


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
