"""Labels in plain words: from a list of names, or from versioned label sets in YAML files."""

import difflib
import hashlib
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stream_classifier.classify.cosine_scores import MULTI_THRESHOLD
from stream_classifier.errors import SettingsError, UsageError
from stream_classifier.events.decode import is_blank

Mode = Literal["single", "multi"]

ADHOC: Final = "adhoc"
"""Identity of a label set that was not read from a file."""

MAX_LABELS: Final = 1000
"""The most labels of a set that is read from a file."""

MAX_EXAMPLES: Final = 100
"""The most examples of one label: more of them make a model no better that only looks at their mean and spread."""

MAX_EXAMPLES_OF_SET: Final = 10_000
"""The most examples of a set: all are run when a worker starts."""

MAX_EXAMPLE_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True)
class Label:
    """One label.

    Attributes:
        name: What results say.
        description: What it is about, in a sentence.
        template: How it becomes what the model reads; `{}` stands for the label. When None, the way of scoring says.
        threshold: The least score at which it is given; the set's own when None.
        examples: Texts that it fits; see `few_shot` for what becomes of them. A way of scoring that cannot use them
            refuses a set that has any when it is prepared.
    """

    name: str
    description: str | None = None
    template: str | None = None
    threshold: float | None = None
    examples: tuple[str, ...] = ()

    @property
    def reads(self) -> str:
        """What a model of similarity reads: the template or "{}", filled with `name`, or `name: description`.

        Both together did best wherever it was tried. Accuracy of the built-in model by name, description and both:
        nine ticket topics, 54 texts in Chinese and English, described in English .57, .72, .80, in Chinese .61, .81,
        .83; the five domains of crosswoz, 300 texts, .77, .81, .82; ten intents of banking77, 300 texts, .89, .87,
        .96.
        """
        label = self.name if self.description is None else f"{self.name}: {self.description}"
        return (self.template or "{}").format(label)

    def hypothesis(self, template: str) -> str:
        """What a model of entailment is asked of a text: the label's template, or else this one, filled with the name.

        The description is not in it. These models were trained on one short statement, of which every part has to
        follow from the text: "This example is delivery: the parcel is late or lost." is less true of a meal that came
        cold than "This example is delivery." is. What more is to be said, a template of the label's own says in the
        words of a statement: "The customer asks about the {} of a parcel or a meal."
        """
        return (self.template or template).format(self.name)


@dataclass(frozen=True)
class LabelSet:
    """Labels that are chosen among together.

    Attributes:
        name: The set's name.
        version: Counts its changes; None when it was made of a list of names.
        mode: Whether a text gets the best label or all that fit.
        threshold: The least score at which a label is given. When None: 0 in single mode, 0.5 in multi mode.
        labels: At least one.
        temperature: Divides the log odds of scores; see `temperature`. 1 leaves them as the model makes them.
    """

    name: str
    version: int | None
    mode: Mode
    threshold: float | None
    labels: tuple[Label, ...]
    temperature: float = 1.0

    @classmethod
    def adhoc(
        cls,
        names: Sequence[str],
        *,
        template: str | None = None,
        mode: Mode = "single",
        threshold: float | None = None,
    ) -> "LabelSet":
        """Make a label set of bare names.

        Raises:
            UsageError: There is none, one is blank or comes twice, or the template cannot be used.
        """
        if problem := problem_with_names(names) or problem_with_template("{}" if template is None else template):
            raise UsageError(f"labels: {problem}")
        return cls(ADHOC, None, mode, threshold, tuple(Label(name, template=template) for name in names))

    @property
    def identity(self) -> str:
        """`name@version`, or `adhoc`: what results carry."""
        return ADHOC if self.version is None else f"{self.name}@{self.version}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def has_examples(self) -> bool:
        """Whether any label has examples."""
        return any(label.examples for label in self.labels)

    @cached_property
    def thresholds(self) -> tuple[float, ...]:
        """The least score at which each label is given."""
        default = {"single": 0.0, "multi": MULTI_THRESHOLD}[self.mode] if self.threshold is None else self.threshold
        return tuple(default if label.threshold is None else label.threshold for label in self.labels)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that differ as soon as anything differs that results depend on."""
        reads = [(label.reads, label.template, label.examples) for label in self.labels]
        content = json.dumps([self.identity, self.mode, self.names, reads, self.thresholds, self.temperature]).encode()
        return hashlib.blake2b(content, digest_size=16).digest()

    @property
    def key(self) -> str:
        """The digest as text."""
        return self.digest.hex()


def problem_with_names(names: Sequence[str]) -> str | None:
    """What is wrong with the names of a set's labels; None when nothing is."""
    if not names:
        return "there are none"
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name.strip():
            return f"number {number} is blank"
        if name in seen:
            return f"{name!r} is there twice"
        seen.add(name)
    return None


def problem_with_template(template: str) -> str | None:
    """What is wrong with a template; None when nothing is."""
    try:
        fields = [parts[1:] for parts in string.Formatter().parse(template) if parts[1] is not None]
    except ValueError:
        fields = []
    if fields != [("", "", None)]:
        return f"the template {template!r} must hold {{}} once, where the label goes; other braces are written twice"
    return None


def load_label_sets(path: Path) -> dict[str, LabelSet]:
    """Read a label set, or every `*.yaml` and `*.yml` of a directory.

    Returns:
        The sets by their names.

    Raises:
        SettingsError: There is none, or one cannot be used; names the file, and every line or field that is wrong.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in {".yaml", ".yml"})
        if not files:
            raise SettingsError(f"{path}: holds no label set (*.yaml)")
    sets: dict[str, LabelSet] = {}
    found_in: dict[str, Path] = {}
    for file in files:
        label_set = _load(file)
        if label_set.name in sets:
            raise SettingsError(f"{file}: {found_in[label_set.name].name} holds a set named {label_set.name!r} already")
        sets[label_set.name] = label_set
        found_in[label_set.name] = file
    return sets


def choose(sets: Mapping[str, LabelSet], use: str | None) -> LabelSet:
    """The set of that name, or the only one there is.

    Raises:
        SettingsError: There are several and none is named, or none has that name.
    """
    names = ", ".join(sorted(sets))
    if use is None:
        if len(sets) != 1:
            raise SettingsError(f"there are several label sets ({names}): say which with labels.use")
        return next(iter(sets.values()))
    if use not in sets:
        raise SettingsError(f"there is no label set {use!r} (labels.use); there are: {names}")
    return sets[use]


def _template(template: str) -> str:
    if problem := problem_with_template(template):
        raise ValueError(problem)
    return template


def _set_name(name: str) -> str:
    if not name.strip() or not name.isprintable() or "@" in name or name == ADHOC:
        raise ValueError(f"a set's name is not blank, not {ADHOC!r}, and has no @ and no control characters")
    return name


def _examples(examples: list[str]) -> list[str]:
    """Examples as they are; what is wrong with one is said by its number, since it may be a user's text."""
    if len(examples) > MAX_EXAMPLES:
        raise ValueError(f"there may be {MAX_EXAMPLES} at most, and there are {len(examples)}")
    first: dict[str, int] = {}
    for number, example in enumerate(examples, 1):
        if is_blank(example):
            raise ValueError(f"number {number} is blank")
        if len(example) > MAX_EXAMPLE_CHARACTERS:
            raise ValueError(f"number {number} is longer than {MAX_EXAMPLE_CHARACTERS:,} characters")
        if first.setdefault(example, number) != number:
            raise ValueError(f"number {number} is the same as number {first[example]}")
    return examples


def _bare_name(label: Any) -> Any:  # noqa: ANN401 - whatever stood in the file
    return {"name": label} if not isinstance(label, dict) else label


_Template = Annotated[str, AfterValidator(_template)]
_Threshold = Annotated[float, Field(ge=0, le=1)]
_Temperature = Annotated[float, Field(gt=0, le=100)]


class _LabelInFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    description: str | None = None
    template: _Template | None = None
    threshold: _Threshold | None = None
    examples: Annotated[list[str], AfterValidator(_examples)] = []


def _distinct(labels: list[_LabelInFile]) -> list[_LabelInFile]:
    if problem := problem_with_names([label.name for label in labels]):
        raise ValueError(problem)
    label_of: dict[str, str] = {}
    for label in labels:
        for number, example in enumerate(label.examples, 1):
            other = label_of.setdefault(example, label.name)
            if other != label.name:
                raise ValueError(f"example {number} of {label.name!r} is an example of {other!r}, too")
    if len(label_of) > MAX_EXAMPLES_OF_SET:
        raise ValueError(f"there may be {MAX_EXAMPLES_OF_SET:,} examples in all, and there are {len(label_of):,}")
    return labels


class _SetInFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(max_length=100), AfterValidator(_set_name)]
    version: Annotated[int, Field(ge=1)]
    mode: Mode = "single"
    template: _Template | None = None
    threshold: _Threshold | None = None
    labels: Annotated[
        list[Annotated[_LabelInFile, BeforeValidator(_bare_name)]],
        Field(min_length=2, max_length=MAX_LABELS),
        AfterValidator(_distinct),
    ]
    temperature: _Temperature = 1.0

    @model_validator(mode="after")
    def _examples_of_more_than_one(self) -> Self:
        # Texts are nearer to texts than to names: one label with examples would win nearly always.
        if self.mode == "single" and sum(bool(label.examples) for label in self.labels) == 1:
            raise ValueError("only one label has examples: give some to a second one at least, better to all")
        return self


def _load(file: Path) -> LabelSet:
    content = _read_yaml(file)
    try:
        read = _SetInFile.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{file}: {'; '.join(_problems(error))}") from None
    labels = tuple(
        Label(
            label.name,
            description=(label.description or "").strip() or None,
            template=read.template if label.template is None else label.template,
            threshold=label.threshold,
            examples=tuple(label.examples),
        )
        for label in read.labels
    )
    return LabelSet(read.name, read.version, read.mode, read.threshold, labels, read.temperature)


def _read_yaml(file: Path) -> object:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{file}{where}: is not YAML ({problem or 'malformed'})") from None


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        message = re.sub(r"^Value error, ", "", item["msg"])
        match item["type"]:
            case "extra_forbidden":
                problems.append(f"{where} is not a key of a label set{_nearest(item['loc'])}")
            case "missing":
                problems.append(f"{where} is required")
            case "string_type":
                problems.append(f"{where} is not text; put it in quotes")
            case "model_type":
                problems.append("holds no label set; it needs name, version and labels")
            case "too_short":
                problems.append(f"{where}: it takes at least 2 to choose between")
            case "too_long":
                problems.append(f"{where}: there may be {MAX_LABELS} at most")
            case _:
                problems.append(f"{where}: {message}" if where else message)
    return problems


def _nearest(place: tuple[int | str, ...]) -> str:
    known = (_SetInFile if len(place) == 1 else _LabelInFile).model_fields
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"
