"""From a YAML file and the environment to `Settings`, with errors that name every problem at once."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from stream_classifier.errors import SettingsError
from stream_classifier.settings import Settings, keys_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "STREAM_CLASSIFIER_"
_LISTS_OF_TEXTS = {("input", "topics"), ("gateway", "cors_origins")}
_CLIENT_PROPERTIES = ("client", "consumer", "producer")
# Kubernetes tells every pod of a namespace about its services; one may well be called stream-classifier.
_OF_KUBERNETES = re.compile(
    r"(\w+_)?((SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*|PORT=\w+://.*)"
)

Document = dict[Any, Any]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, where YAML's own would let the later one win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, "the same key stands twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read a settings file, with the environment over it.

    Args:
        path: A YAML file. Relative paths in it are relative to its directory.
        environment: Holds `STREAM_CLASSIFIER_SECTION__KEY` variables; `os.environ` when None. Relative paths in them
            are relative to the working directory.

    Raises:
        SettingsError: The file cannot be read, or holds something that is not a setting. Names every such thing, and
            no value: it could be a secret.
    """
    document = _read(path)
    problems: list[str] = []
    _place_paths(document, path.parent)
    variables = _add_environment(document, os.environ if environment is None else environment, problems)
    _place_paths(document, Path())
    _read_secrets(document, problems)
    settings = None
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        problems += _problems(error, variables)
    if settings is None or problems:
        raise SettingsError(f"{path}: {'; '.join(problems)}")
    return settings


def _read(path: Path) -> Document:
    try:
        document = _yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a settings file with --config") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{where}: is not YAML ({_without_content(problem or 'malformed')})") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: holds no settings; config/worker.yaml is an example")
    return _without_empty_sections(document)


def _yaml(text: str) -> Any:  # noqa: ANN401 - any YAML value
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _without_content(problem: str) -> str:
    """What the parser says, without what it quotes: an unquoted password may look like an alias or a tag to it."""

    def shown(quoted: re.Match[str]) -> str:
        content = quoted[2]
        return quoted[0] if len(content) < 2 or content.startswith("<") else "..."  # noqa: PLR2004 - a sign of YAML's

    return re.sub(r"(['\"])(.*?)\1", shown, problem)


def _without_empty_sections(document: Document) -> Document:
    """A section of which every line is commented out is None in YAML, and means the defaults."""
    document = {name: section for name, section in document.items() if section is not None}
    kafka = document.get("kafka")
    if isinstance(kafka, dict):
        for name in _CLIENT_PROPERTIES:
            if name in kafka and kafka[name] is None:
                del kafka[name]
    registry = document.get("schema_registry")
    if isinstance(registry, dict) and "client" in registry and registry["client"] is None:
        del registry["client"]
    return document


def _place_paths(document: Document, directory: Path) -> None:
    """Put paths for the strings that name files."""
    model = document.get("model")
    cascade = model.get("cascade") if isinstance(model, dict) else None
    for keys in (model, cascade, document.get("labels")):
        if isinstance(keys, dict) and isinstance(keys.get("path"), str):
            keys["path"] = directory / _expanded(keys["path"])
    for _, properties in _client_properties(document):
        for value in properties.values():
            if isinstance(value, dict) and isinstance(value.get("file"), str):
                value["file"] = directory / _expanded(value["file"])


def _read_secrets(document: Document, problems: list[str]) -> None:
    """Put secrets for the files that hold them."""
    for section, properties in _client_properties(document):
        for name, value in properties.items():
            if not isinstance(value, dict) or list(value) != ["file"] or not isinstance(value["file"], Path):
                continue
            try:
                properties[name] = value["file"].read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                problems.append(f"{section}.{name}: its file cannot be read ({reason})")
                properties[name] = ""


def _client_properties(document: Document) -> Iterator[tuple[str, Document]]:
    kafka = document.get("kafka")
    if isinstance(kafka, dict):
        yield from ((f"kafka.{name}", kafka[name]) for name in _CLIENT_PROPERTIES if isinstance(kafka.get(name), dict))
    registry = document.get("schema_registry")
    if isinstance(registry, dict) and isinstance(registry.get("client"), dict):
        yield "schema_registry.client", registry["client"]


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def _add_environment(document: Document, environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Put the environment's values over the file's.

    Returns:
        For each `section.key`, the variable that it came from.
    """
    variables = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or _is_of_kubernetes(variable, text):
            continue
        value: Any
        match variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__", 2):
            case [("kafka" | "schema_registry") as section, key, name] if key in _client_keys(section):
                # librdkafka's names have dots, which a variable's name cannot. The value stays text: a password of
                # digits must not become a number.
                value = {name.replace("_", "."): text}
            case ["delivery"]:
                document["delivery"] = text
                variables["delivery"] = variable
                continue
            case [section, key]:
                try:
                    value = _environment_value(section, key, text)
                except (yaml.YAMLError, RecursionError, ValueError):
                    problems.append(f"{variable}: holds no value that YAML can read")
                    continue
                variables[f"{section}.{key}"] = variable
            case _:
                problems.append(f"{variable}: names no setting; write {ENVIRONMENT_PREFIX}SECTION__KEY")
                continue
        target = document.setdefault(section, {})
        if isinstance(target, dict):  # else it is refused for what it is
            old = target.get(key)
            target[key] = {**old, **value} if isinstance(value, dict) and isinstance(old, dict) else value
    return variables


def _client_keys(section: str) -> tuple[str, ...]:
    return _CLIENT_PROPERTIES if section == "kafka" else ("client",)


def _is_of_kubernetes(variable: str, text: str) -> bool:
    name = variable.removeprefix(ENVIRONMENT_PREFIX)
    return "__" not in name and _OF_KUBERNETES.fullmatch(f"{name}={text}") is not None


def _environment_value(section: str, key: str, text: str) -> Any:  # noqa: ANN401 - any YAML value
    field = _sections().get(section, {}).get(key)
    annotation = None if field is None else field.annotation
    types = set(get_args(annotation)) if get_origin(annotation) in {Union, UnionType} else {annotation}
    if types & {str, Path}:  # text stays text: a group may be called 007
        return None if type(None) in types and text in {"", "null"} else text
    if (section, key) in _LISTS_OF_TEXTS and not text.startswith("["):
        return [part.strip() for part in text.split(",")]
    return _yaml(text)


def _problems(error: ValidationError, variables: Mapping[str, str]) -> list[str]:
    problems = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in item["loc"])
        where = variables.get(".".join(str(part) for part in item["loc"][:2]), name)
        if where != name and (inner := [part for part in item["loc"][2:] if isinstance(part, str)]):
            where = f"{where}, {'.'.join(inner)}"
        match item["type"]:
            case "extra_forbidden":
                problems.append(f"{where} is not a setting{_nearest(name)}")
            case "missing" if name in _sections():
                keys = _sections()[name].items()
                problems += [f"{name}.{key} is required" for key, field in keys if field.is_required()]
            case "missing":
                problems.append(f"{where} is required")
            case "model_type" | "dict_type":
                problems.append(f"{where} takes keys of its own, each on a line below it")
            case "tuple_type":
                problems.append(f"{where} takes a list")
            case "path_type":
                problems.append(f"{where} takes a path")
            case _:
                message = re.sub(r"^Value error, ", "", item["msg"])
                problems.append(f"{where}: {message}" if where else message)
    return problems


def _nearest(unknown: str) -> str:
    known = setting_names()
    section, dot, key = unknown.rpartition(".")
    siblings = [name.removeprefix(section + dot) for name in known if name.rpartition(".")[0] == section]
    near = [section + dot + name for name in difflib.get_close_matches(key, siblings, n=1)]
    near += [name for name in known if name.rpartition(".")[2] == key]
    return f" (did you mean {near[0]}?)" if near else ""


def setting_names() -> list[str]:
    """Every dotted name that a settings file may hold, its sections included."""
    names = []
    for section, field in Settings.model_fields.items():
        names.append(section)
        for key, inner in keys_of(field).items():
            names += [f"{section}.{key}", *(f"{section}.{key}.{last}" for last in keys_of(inner))]
    return names


def _sections() -> dict[str, dict[str, FieldInfo]]:
    return {name: keys for name, field in Settings.model_fields.items() if (keys := keys_of(field))}
