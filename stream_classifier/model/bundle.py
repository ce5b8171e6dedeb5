"""A model bundle: a directory with a model, its tokenizer, and a manifest that pins every byte of both.

`manifest.json` names the files with their SHA-256 and says how they are to be used: the prefix put before each text,
the temperature, the longest text in tokens. `Manifest.hash` covers all that can change a result and nothing else, so
two bundles with the same identity label alike, and a record that names its model can be explained later.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stream_classifier.errors import BundleError

Task = Literal["similarity", "entailment"]
Precision = Literal["int7", "fp16", "fp32"]

DefaultPrecision = Literal["int7", "fp32"]
"""In which the built-in model can be built."""

MANIFEST_FILE: Final = "manifest.json"
MODEL_FILE: Final = "model.onnx"
WEIGHTS_FILE: Final = "model.onnx.data"
TOKENIZER_FILE: Final = "tokenizer.json"

FEWEST_TOKENS: Final = 3
"""Two special tokens and something between them."""

REBUILD: Final = "restore the bundle from where it came from (the built-in model: run `stream-classifier model build`)"
"""What to do about a bundle that cannot be used: the end of every message about one."""

_RESULTS_DO_NOT_DEPEND_ON: Final = frozenset(
    {"licence", "source", "revision", "opset", "parity", "fused_attention", "builder"}
)


def _plain_name(name: str) -> str:
    """Refuses names that could lead out of the bundle's directory."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or name == MANIFEST_FILE:
        raise ValueError(f"{name!r} is not a plain file name")
    return name


FileName = Annotated[str, AfterValidator(_plain_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _files_to_run(files: dict[str, str]) -> dict[str, str]:
    """Refuses a bundle that lacks what it takes to run."""
    if missing := {MODEL_FILE, TOKENIZER_FILE} - files.keys():
        raise ValueError(f"lacks {' and '.join(sorted(missing))}")
    return files


class Entailment(BaseModel):
    """How a model that tells whether a premise entails a hypothesis is asked, and how its answer is read.

    Attributes:
        entailment_id: The logit of "entailed".
        contradiction_id: The logit of "contradicted" (of "not entailed", where there are only two).
        template: How a label becomes a hypothesis, where its label set does not say; `{}` stands for the label.
        truncation: What a pair that is too long loses its end of: the premise only, or whichever is longer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entailment_id: Annotated[int, Field(ge=0)]
    contradiction_id: Annotated[int, Field(ge=0)]
    template: str
    truncation: Literal["only_first", "longest_first"]


class ParityStage(BaseModel):
    """How near the model was at one stage of its making; `Parity` says what the figures are.

    Attributes:
        stage: What had been done to the model.
        agreement: The share of inputs with the same best class or nearest neighbour.
        worst: The largest difference.
        batch_worst: The largest difference between an input alone and the same input in a batch.
        limit: What `worst` was held to.
        batch_limit: What `batch_worst` was held to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    agreement: Annotated[float, Field(ge=0, le=1)]
    worst: Annotated[float, Field(ge=0)]
    batch_worst: Annotated[float, Field(ge=0)]
    limit: Annotated[float, Field(gt=0)]
    batch_limit: Annotated[float, Field(gt=0)]


class Parity(BaseModel):
    """How near the bundle's model came to the one it was made from, at the last stage of its making.

    Attributes:
        compared_with: What it was compared with.
        inputs: How many inputs were compared, over all shapes.
        agreement: The share of inputs with the same best class (of embeddings: the same nearest neighbour).
        worst: The largest difference of a probability (of embeddings: 1 less the smallest cosine).
        batch_worst: The largest difference of a probability (of embeddings: of a component) between an input alone and
            the same input in a batch.
        limit: What `worst` was held to.
        shapes: The shapes that were compared, "texts x tokens".
        stages: The figures of every stage, in their order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    compared_with: str
    inputs: Annotated[int, Field(gt=0)]
    agreement: Annotated[float, Field(ge=0, le=1)]
    worst: Annotated[float, Field(ge=0)]
    batch_worst: Annotated[float, Field(ge=0)]
    limit: Annotated[float, Field(gt=0)]
    shapes: tuple[str, ...] = ()
    stages: tuple[ParityStage, ...] = ()


class Manifest(BaseModel):
    """What a bundle holds and how it is to be used.

    Attributes:
        format: Version of this format.
        name: Name of the model, as it appears in results.
        task: How texts are scored: by the cosine to the labels' embeddings, or by whether they entail the labels.
        precision: Arithmetic of the matrix products: 7-bit integer weights, float16, or float32.
        activations: How activations are made integers: each token by its own scale, all by scales that were measured
            when the bundle was made, or not at all.
        dimensions: Length of an embedding; of a model of entailment the number of its logits.
        prefix: Put before every text and label by the tokenizer ("query: " for E5).
        temperature: Divides cosines, or logits, before the softmax; E5's cosines all lie close together.
        max_length: The longest text in tokens, special tokens included; the rest of a text is not read.
        entailment: How a model of entailment is asked; None for one of similarity.
        licence: Licence of the weights, an SPDX identifier.
        source: Where the weights come from.
        revision: Of the source, where it has one.
        opset: Version of ONNX's operators that the graph was written in.
        parity: How near it came to the model that it was made from; None when nothing was compared.
        fused_attention: How many of its layers have their attention in one operator; None when nobody counted.
        builder: The recipe that made the files, with its version.
        files: SHA-256 of each file, by name, the manifest itself left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    task: Task = "similarity"
    precision: Precision
    activations: Literal["per_token", "static", "none"]
    dimensions: Annotated[int, Field(gt=0)]
    prefix: str
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    max_length: Annotated[int, Field(ge=FEWEST_TOKENS)]
    entailment: Entailment | None = None
    licence: str
    source: str
    revision: str | None = None
    opset: int | None = None
    parity: Parity | None = None
    fused_attention: Annotated[int, Field(ge=0)] | None = None
    builder: str
    files: Annotated[dict[FileName, Sha256], AfterValidator(_files_to_run)]

    @model_validator(mode="after")
    def _asks_as_its_task_takes(self) -> Self:
        if (self.task == "entailment") != (self.entailment is not None):
            raise ValueError("entailment is given for the task entailment, and for no other")
        if self.entailment and max(self.entailment.entailment_id, self.entailment.contradiction_id) >= self.dimensions:
            raise ValueError("an id of entailment is beyond the model's logits")
        if self.entailment and self.entailment.entailment_id == self.entailment.contradiction_id:
            raise ValueError("entailment and contradiction have the same id")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of everything that can change a result, as 64 hexadecimal digits."""
        content = self.model_dump(mode="json", exclude=set(_RESULTS_DO_NOT_DEPEND_ON), exclude_none=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def short_hash(self) -> str:
        """The first 8 digits of the hash."""
        return self.hash[:8]

    @property
    def identity(self) -> str:
        """Name and short hash, such as `multilingual-e5-small@9f2c41d0`: what results carry."""
        return f"{self.name}@{self.short_hash}"


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of a bundle; the other files are not looked at.

    Raises:
        BundleError: There is none, or it cannot be understood.
    """
    path = directory / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{directory} is not a model bundle (it has no {MANIFEST_FILE}): {REBUILD}") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): {REBUILD}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{path} cannot be understood ({field}: {first['msg']}): {REBUILD}") from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes the manifest into the bundle's directory."""
    content = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (directory / MANIFEST_FILE).write_text(content + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits; the file is read piece by piece.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_file(directory: Path, manifest: Manifest, name: str) -> None:
    """Compares one file of a bundle with its manifest, byte for byte by its SHA-256.

    Raises:
        BundleError: The file is missing, cannot be read, or is not what the manifest says.
    """
    path = directory / name
    try:
        actual = sha256_of(path)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: {REBUILD}") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): {REBUILD}") from error
    if actual != manifest.files[name]:
        raise BundleError(f"{path} is damaged or was changed (its SHA-256 is not the manifest's): {REBUILD}")


def verify(directory: Path) -> Manifest:
    """Recomputes the SHA-256 of every file of a bundle.

    Returns:
        The manifest that they agree with.

    Raises:
        BundleError: A file is missing, or is not what the manifest says.
    """
    manifest = read_manifest(directory)
    for name in manifest.files:
        verify_file(directory, manifest, name)
    return manifest
