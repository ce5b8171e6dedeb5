"""From a YAML file and the environment to `Settings`, with errors that name every problem at once."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from stream_classifier.errors import SettingsError
from stream_classifier.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "STREAM_CLASSIFIER_"
_CLIENT_PROPERTIES = ("client", "consumer", "producer")

Document = dict[Any, Any]


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read a settings file, with the environment over it.

    Args:
        path: A YAML file. Relative paths in it are relative to its directory.
        environment: Holds `STREAM_CLASSIFIER_SECTION__KEY` variables; `os.environ` when None.

    Raises:
        SettingsError: The file cannot be read, or holds something that is not a setting. Names every such thing, and
            no value: it could be a secret.
    """
    document = _read(path)
    _add_environment(document, os.environ if environment is None else environment)
    _resolve_paths(document, path.parent)
    _read_secrets(document, path.parent)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path}: {'; '.join(_problems(error))}") from None


def _read(path: Path) -> Document:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a settings file with --config") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{where}: is not YAML ({problem or 'malformed'})") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: holds no settings; config/worker.yaml is an example")
    return document


def _add_environment(document: Document, environment: Mapping[str, str]) -> None:
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        value: Any
        match variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__", 2):
            case ["kafka", key, name] if key in _CLIENT_PROPERTIES:
                # librdkafka's names have dots, which a variable's name cannot. The value stays text: a password of
                # digits must not become a number.
                section, value = "kafka", {name.replace("_", "."): text}
            case [section, key]:
                value = _environment_value(section, key, text, variable)
            case _:
                raise SettingsError(f"{variable}: names no setting; write {ENVIRONMENT_PREFIX}SECTION__KEY")
        target = document.setdefault(section, {})
        if not isinstance(target, dict):
            raise SettingsError(f"{variable}: {section} in the file is not a section with keys")
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            value = {**target[key], **value}
        target[key] = value


def _environment_value(section: str, key: str, text: str, variable: str) -> Any:  # noqa: ANN401 - any YAML value
    field = _sections().get(section, {}).get(key)
    if field is not None and field.annotation is str:
        return text
    if (section, key) == ("input", "topics"):
        return [topic.strip() for topic in text.strip(" []").split(",")]
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"{variable}: holds no value that YAML can read") from None


def _resolve_paths(document: Document, directory: Path) -> None:
    for section in ("model", "labels"):
        keys = document.get(section)
        if isinstance(keys, dict) and isinstance(keys.get("path"), str):
            keys["path"] = directory / Path(keys["path"]).expanduser()


def _read_secrets(document: Document, directory: Path) -> None:
    kafka = document.get("kafka")
    if not isinstance(kafka, dict):
        return
    for section in _CLIENT_PROPERTIES:
        properties = kafka.get(section)
        if not isinstance(properties, dict):
            continue
        for name, value in properties.items():
            if isinstance(value, dict) and list(value) == ["file"]:
                try:
                    secret = (directory / Path(str(value["file"])).expanduser()).read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    reason = getattr(error, "strerror", None) or "not UTF-8 text"
                    raise SettingsError(f"kafka.{section}.{name}: its file cannot be read ({reason})") from None
                properties[name] = secret.rstrip("\r\n")


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            problems.append(f"{where} is not a setting{_nearest(where)}")
        elif item["type"] == "missing":
            problems.append(f"{where} is required")
        else:
            message = re.sub(r"^Value error, ", "", item["msg"])
            problems.append(f"{where}: {message}" if where else message)
    return problems


def _nearest(unknown: str) -> str:
    known = setting_names()
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.6)
    near += [name for name in known if name.rpartition(".")[2] == unknown.rpartition(".")[2]]
    return f" (did you mean {near[0]}?)" if near else ""


def setting_names() -> list[str]:
    """Every dotted name that a settings file may hold, its sections included."""
    return [
        name for section, fields in _sections().items() for name in (section, *(f"{section}.{key}" for key in fields))
    ]


def _sections() -> dict[str, dict[str, FieldInfo]]:
    schemas = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {
        name: schema.model_fields
        for name, schema in schemas.items()
        if isinstance(schema, type) and issubclass(schema, BaseModel)
    }
