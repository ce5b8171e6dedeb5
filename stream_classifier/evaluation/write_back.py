"""A calibrated label set, written back to its YAML file with the comments and the order that it has."""

from __future__ import annotations

import importlib
import io
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_classifier.classify.labels import LabelSet, choose, load_label_sets
from stream_classifier.errors import StreamClassifierError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ruamel.yaml import YAML


def require() -> None:
    """Refuse where nothing can be written, before anything long is begun.

    Raises:
        UsageError: ruamel.yaml is not installed.
    """
    try:
        importlib.import_module("ruamel.yaml")
    except ImportError:
        raise UsageError("--write takes ruamel.yaml: pip install '.[report]'") from None


def calibrated(
    label_set: LabelSet, temperature: float, threshold: float | None, thresholds: Mapping[str, float]
) -> LabelSet:
    """The label set with what was fitted, as its next version.

    Args:
        label_set: As it is.
        temperature: Of the set.
        threshold: Of the set; None leaves it.
        thresholds: Of labels, by name; others keep theirs.
    """
    return replace(
        label_set,
        version=(label_set.version or 0) + 1,
        temperature=temperature,
        threshold=label_set.threshold if threshold is None else threshold,
        labels=tuple(
            replace(label, threshold=thresholds.get(label.name, label.threshold)) for label in label_set.labels
        ),
    )


def write_back(path: Path, fitted: LabelSet) -> None:
    """Change version, temperature and thresholds in a label set's file, and nothing else.

    The file is replaced as a whole, once what is to be written has been read again and is what was meant.

    Args:
        path: The file that the label set was read from.
        fitted: What it shall say.

    Raises:
        UsageError: The file cannot be written.
        StreamClassifierError: What would be written does not say it.
    """
    text = path.read_text(encoding="utf-8-sig")
    yaml = _as_it_is_written(text)
    content: Any = yaml.load(text)
    content["version"] = fitted.version
    if fitted.threshold is not None and fitted.threshold != content.get("threshold"):
        _put(content, "threshold", fitted.threshold)
    if fitted.temperature != content.get("temperature", 1.0):
        _put(content, "temperature", fitted.temperature)
    for place, label in enumerate(fitted.labels):
        written = content["labels"][place]
        if label.threshold is None:
            continue
        if isinstance(written, str):
            _give_threshold(content["labels"], place, label.threshold)
        elif written.get("threshold") != label.threshold:
            written["threshold"] = label.threshold
    stream = io.StringIO()
    yaml.dump(content, stream)
    _replace(path, stream.getvalue(), fitted)


def _put(content: Any, key: str, value: float) -> None:  # noqa: ANN401 - a mapping of ruamel's
    """Set a key; a new one stands behind the version."""
    if key in content:
        content[key] = value
    else:
        content.insert(list(content).index("version") + 1, key, value)


def _give_threshold(labels: Any, place: int, threshold: float) -> None:  # noqa: ANN401 - a list of ruamel's
    """Make a mapping of a bare name; the comment behind it goes along."""
    from ruamel.yaml.comments import CommentedMap  # noqa: PLC0415 - an extra

    label = CommentedMap({"name": labels[place], "threshold": threshold})
    if behind := labels.ca.items.pop(place, None):
        label.ca.items["threshold"] = [None, None, behind[0], None]
    labels[place] = label


def _as_it_is_written(text: str) -> YAML:
    """A reader and writer that keeps comments, quotes, long lines, and how lists are indented."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - an extra

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1_000_000
    if found := re.search(r"^labels:[^\n]*\n(?:\s*#[^\n]*\n|\s*\n)*( *)-( *)", text, re.MULTILINE):
        offset = len(found[1])
        yaml.indent(mapping=2, sequence=offset + 1 + len(found[2]), offset=offset)
    return yaml


def _replace(path: Path, text: str, fitted: LabelSet) -> None:
    handle = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".yaml")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        written = Path(name)
        try:
            if choose(load_label_sets(written), None) != fitted:
                raise StreamClassifierError(f"{path}: cannot be changed without changing more; paste the lines by hand")
            written.chmod(path.stat().st_mode & 0o777)
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
