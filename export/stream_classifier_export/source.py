"""A model's files: found in a directory, or brought from a hub, and looked at before anything is loaded from them."""

import hashlib
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast

import yaml
from safetensors import SafetensorError, safe_open

from stream_classifier.errors import ExportError
from stream_classifier.model.bundle import sha256_of

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# What a model can need, and nothing that is code.
_WANTED: Final = ("*.json", "*.safetensors", "*.txt", "*.model", "README.md", "LICENSE*")
_PICKLED: Final = "*.bin"


@dataclass(frozen=True)
class Source:
    """A model's files.

    Attributes:
        directory: Where they are.
        name: The last part of the directory's path or of the hub's id.
        described: Where they come from, with the weights' SHA-256.
        revision: The hub's revision, pinned.
        licence: As the model card has it; None when it says nothing.
        config: What config.json says.
        weights: The files of the weights, in the order of their names.
        pickled: Whether those are pickled.
    """

    directory: Path
    name: str
    described: str
    revision: str | None
    licence: str | None
    config: dict[str, Any]
    weights: tuple[Path, ...]
    pickled: bool


def find(
    source: str, *, revision: str | None = None, allow_pickled_weights: bool = False, weights_sha256: str | None = None
) -> Source:
    """Finds a model's files, and refuses weights that are pickled, damaged, or not those that were expected.

    Args:
        source: A directory, or an id on the hub, whose files are then brought here.
        revision: Of a model on the hub.
        allow_pickled_weights: Takes pickled weights where there are no others.
        weights_sha256: What the weights' SHA-256 has to be, see `weights_hash`.

    Raises:
        ExportError: There is no such model, or its weights are refused.
    """
    directory = Path(source).expanduser()
    pinned = None
    if directory.is_dir():
        name, origin = directory.resolve().name, directory.resolve().name
        if revision is not None:
            raise ExportError(f"{source} is a directory: --revision is for models on a hub")
    elif _HUB_ID.fullmatch(source):
        directory, pinned = _download(source, revision, allow_pickled_weights)
        name, origin = source.rpartition("/")[2], source
    else:
        raise ExportError(f"there is no directory {source}: name one with a config.json and the weights")
    config = read_json(directory / "config.json")
    weights, pickled = _weights(directory, allow_pickled_weights)
    actual = weights_hash(weights)
    if weights_sha256 is not None and actual != weights_sha256.lower():
        raise ExportError(
            f"the weights in {directory} are not those that were asked for: their SHA-256 is {actual}; get the files"
            " again, or name this hash if they are right"
        )
    if not pickled:
        _check_whole(weights)
    return Source(
        directory=directory,
        name=name,
        described=f"{origin}, weights sha256:{actual}",
        revision=pinned,
        licence=_licence(directory),
        config=config,
        weights=weights,
        pickled=pickled,
    )


def weights_hash(weights: tuple[Path, ...]) -> str:
    """SHA-256 of the weights: of the file, or, of several, of the lines that `sha256sum` prints for them."""
    if len(weights) == 1:
        return sha256_of(weights[0])
    lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in weights)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ExportError: There is none.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ExportError(f"{path.parent} holds no model of transformers: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read as JSON: get the file again") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path} holds no JSON object: get the file again")
    return content


def _download(model: str, revision: str | None, allow_pickled_weights: bool) -> tuple[Path, str]:
    """Brings a model's files, or finds them in the hub's cache.

    Returns:
        The directory, and the revision as a commit's hash.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - not for a directory
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415 - likewise

    # What its answers raise, and what a broken connection raises, have a base in common: that of its HTTP library.
    of_http = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    patterns = [*_WANTED, _PICKLED] if allow_pickled_weights else list(_WANTED)
    try:
        directory = Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HFValidationError, OSError, *of_http) as error:
        raise ExportError(
            f"{model} is no directory here and cannot be had from the hub either: {_why(error, revision)}"
        ) from error
    return directory, directory.name  # the cache keeps each revision in a directory of its commit's name


def _why(error: Exception, revision: str | None) -> str:
    """What the hub's error means, and what to do."""
    from huggingface_hub.errors import (  # noqa: PLC0415 - not for a directory
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # Where the hub cannot be asked, the client looks into its cache, and says that first.
    reason = (error.__cause__ or error) if isinstance(error, LocalEntryNotFoundError) else error
    if isinstance(reason, GatedRepoError):
        return "somebody has to accept its terms there first; do so, and set HF_TOKEN"
    if isinstance(reason, RepositoryNotFoundError) or (
        isinstance(reason, HfHubHTTPError) and reason.response.status_code == HTTPStatus.UNAUTHORIZED
    ):
        return "it has none of this name, or not for everybody; see that the id is right, or set HF_TOKEN"
    if isinstance(reason, RevisionNotFoundError):
        return f"it has the model, but no revision {revision} of it; name another with --revision"
    if isinstance(reason, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set and the hub's cache lacks it; unset that, or name the model's directory"
    return f"something failed ({type(reason).__name__}); see that it can be reached, or name the model's directory"


def _weights(directory: Path, allow_pickled_weights: bool) -> tuple[tuple[Path, ...], bool]:
    safe = _files(directory, "model.safetensors")
    if safe:
        return safe, False
    pickled = _files(directory, "pytorch_model.bin")
    if not pickled:
        pickled_ones = "" if allow_pickled_weights else ", or --allow-pickled-weights to bring pickled ones from a hub"
        raise ExportError(f"{directory} has no weights: expected model.safetensors{pickled_ones}")
    if not allow_pickled_weights:
        raise ExportError(
            f"{directory} has pickled weights only ({pickled[0].name}), and unpickling can run code: convert them to"
            " model.safetensors, or add --allow-pickled-weights to read tensors from them and nothing else"
        )
    return pickled, True


def _files(directory: Path, name: str) -> tuple[Path, ...]:
    """The file of this name, or the parts that its index lists."""
    if (directory / name).is_file():
        return (directory / name,)
    index = directory / f"{name}.index.json"
    if not index.is_file():
        return ()
    parts = sorted({str(part) for part in read_json(index).get("weight_map", {}).values()})
    for part in parts:
        if "/" in part or not (directory / part).is_file():
            raise ExportError(f"{directory} lacks {part}, a part of the weights: get the files again")
    return tuple(directory / part for part in parts)


def _check_whole(weights: tuple[Path, ...]) -> None:
    """Refuses files that are cut short: a safetensors file says how long it has to be."""
    for path in weights:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ExportError(f"{path} is damaged or cut short: get the file again") from error


def _licence(directory: Path) -> str | None:
    """What the model card's front matter says."""
    try:
        card = (directory / "README.md").read_text(encoding="utf-8")
        found = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
        licence = yaml.safe_load(found[1]).get("license") if found else None
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return None  # a card is for people: one that cannot be read says nothing
    return licence if isinstance(licence, str) else None
