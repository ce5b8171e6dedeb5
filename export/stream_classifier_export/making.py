"""From a model to a bundle, stage by stage, each behind the parity gate. The bundle appears whole, or not at all."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
import transformers
from tokenizers import Tokenizer
from torch import nn

from stream_classifier.errors import BundleError, ExportError, UsageError
from stream_classifier.model.bundle import (
    FEWEST_TOKENS,
    MANIFEST_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Entailment,
    Manifest,
    Precision,
    read_manifest,
    sha256_of,
    write_manifest,
)
from stream_classifier_export import attention, calibration, checkpoint, graph, quantising, rewriting, structbert
from stream_classifier_export import tokenizer as tokenizers_file
from stream_classifier_export.checkpoint import Checkpoint
from stream_classifier_export.entailment_ids import entailment_ids
from stream_classifier_export.modules import Embedding, Logits, TypedLogits
from stream_classifier_export.parity import Floats, Gate
from stream_classifier_export.probes import TEXTS, Probe, probes
from stream_classifier_export.request import Pooling, Request
from stream_classifier_export.sentence_encoder import SentenceEncoder, sentence_encoder
from stream_classifier_export.source import Source, find

RECIPE: Final = 1
"""Counts up when the same model would give another graph."""

TEMPLATE: Final = "This example is {}."
TEMPERATURE: Final = {"similarity": 0.05, "entailment": 1.0}
"""Of cosines what most sentence encoders are trained with (a scale of 20); of logits what they are trained with."""


class _Plan(NamedTuple):
    """What was asked for, with all that the model had to say to it."""

    request: Request
    source: Source
    loaded: Checkpoint
    max_length: int
    pooling: Pooling | None
    prefix: str
    entailment: Entailment | None

    @property
    def inputs(self) -> tuple[str, ...]:
        types = self.entailment is not None and self.loaded.token_types
        return ("input_ids", "attention_mask", "token_type_ids") if types else ("input_ids", "attention_mask")


def export(request: Request, *, progress: Callable[[str], None]) -> Manifest:
    """Exports a model.

    Args:
        request: What to export, and how.
        progress: Is told in a line what is being done.

    Returns:
        The bundle's manifest.

    Raises:
        ExportError: The model is refused, or what was made of it is too far from it. Nothing was written.
        UsageError: What is asked for does not fit together, or something is in the way.
        BundleError: ONNX Runtime is not installed.
    """
    _check(request)
    texts = TEXTS if request.calibration is None else calibration.read_texts(request.calibration)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    progress(f"reading {request.source}")
    source = find(
        request.source,
        revision=request.revision,
        allow_pickled_weights=request.allow_pickled_weights,
        weights_sha256=request.weights_sha256,
    )
    with _directory_for(request.out, force=request.force) as made:
        plan, tokenizer = _prepare(request, source, made / TOKENIZER_FILE)
        gate = _gate(plan, tokenizer, progress)
        fused = _write_graph(plan, tokenizer, texts, gate, made, progress)
        manifest = _manifest(plan, gate, made, fused)
        write_manifest(made, manifest)
    progress(f"wrote {manifest.identity} to {request.out}")
    return manifest


def _check(request: Request) -> None:
    """Refuses options that the task or the precision has no use for: silently left out, they would mislead."""
    if request.activations == "static" and (request.precision != "int7" or request.calibration is None):
        raise UsageError("static activations take --precision int7 and texts to measure on: add --calibration FILE")
    if request.calibration is not None and request.activations != "static":
        raise UsageError("--calibration is for --activations static")
    of_entailment = {
        "--template": request.template,
        "--truncation": request.truncation,
        "--entailment-id": request.entailment_id,
        "--contradiction-id": request.contradiction_id,
    }
    of_similarity = {"--pooling": request.pooling, "--prefix": request.prefix}
    wrong = of_entailment if request.task == "similarity" else of_similarity
    for option, value in wrong.items():
        if value is not None:
            raise UsageError(f"{option} has no meaning for the task {request.task}")
    if request.template is not None and "{}" not in request.template:
        raise UsageError("--template needs {} where the label is to stand")
    if request.temperature is not None and not 0 < request.temperature < float("inf"):
        raise UsageError("--temperature takes a number above 0")
    if request.limit is not None and not 0 < request.limit < float("inf"):
        raise UsageError("--limit takes a number above 0")


@contextmanager
def _directory_for(out: Path, *, force: bool) -> Iterator[Path]:
    """A directory to make the bundle in, which becomes `out` when all has gone well, and otherwise vanishes."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        try:
            read_manifest(out)
        except BundleError as error:
            raise UsageError(f"{out} is there, and is no bundle: name another directory") from error
        if not force:
            raise UsageError(f"{out} holds a bundle: name another directory, or add --force to replace it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            made = Path(temporary) / "bundle"
            made.mkdir()
            yield made
            if out.exists():
                shutil.rmtree(out)
            made.rename(out)
    except OSError as error:
        raise ExportError(f"the bundle cannot be written to {out} ({error.strerror}): make room there") from error


def _prepare(request: Request, source: Source, tokenizer_file: Path) -> tuple[_Plan, Tokenizer]:
    said = sentence_encoder(source.directory) if request.task == "similarity" else SentenceEncoder()
    own = tokenizers_file.load(source)
    loaded = checkpoint.load(source, request.task)
    written = tokenizers_file.write(
        own,
        tokenizer_file,
        vocabulary=loaded.vocabulary,
        pad_id=loaded.pad_id,
        pairs=request.task == "entailment",
    )
    limits = (loaded.positions, tokenizers_file.longest(own), said.max_length)
    max_length = min(limit for limit in limits if limit is not None)
    if request.max_length is not None:
        if not FEWEST_TOKENS <= request.max_length <= loaded.positions:
            raise ExportError(
                f"--max-length {request.max_length} does not fit {source.name}: it has positions for {loaded.positions}"
                f" tokens, and {FEWEST_TOKENS} are the fewest"
            )
        max_length = request.max_length
    plan = _Plan(
        request=request,
        source=source,
        loaded=loaded,
        max_length=max_length,
        pooling=_pooling(request, said, source) if request.task == "similarity" else None,
        prefix=next((given for given in (request.prefix, said.prompt) if given is not None), ""),
        entailment=_entailment(request, source, loaded) if request.task == "entailment" else None,
    )
    return plan, written


def _pooling(request: Request, said: SentenceEncoder, source: Source) -> Pooling:
    pooling = request.pooling or said.pooling
    if pooling is None:
        raise UsageError(f"{source.name} does not say how it pools tokens (1_Pooling): add --pooling mean or cls")
    return pooling


def _entailment(request: Request, source: Source, loaded: Checkpoint) -> Entailment:
    is_structbert = source.config.get("model_type") == structbert.MODEL_TYPE
    names = {int(number): str(name) for number, name in loaded.model.config.id2label.items()}
    entailed, contradicted = entailment_ids(
        names, entailment_id=request.entailment_id, contradiction_id=request.contradiction_id
    )
    return Entailment(
        entailment_id=entailed,
        contradiction_id=contradicted,
        template=request.template or (structbert.TEMPLATE if is_structbert else TEMPLATE),
        truncation=request.truncation or (structbert.TRUNCATION if is_structbert else "only_first"),
    )


def _gate(plan: _Plan, tokenizer: Tokenizer, progress: Callable[[str], None]) -> Gate:
    progress("  asking the model itself")
    pairs = plan.entailment is not None
    return Gate(
        plan.request.task,
        probes(tokenizer, longest=plan.max_length, pairs=pairs),
        lambda probe: _reference(plan, probe),
        plan.inputs,
        f"PyTorch {torch.__version__}, transformers {transformers.__version__}, float32",
        plan.request.limit,
    )


def _reference(plan: _Plan, probe: Probe) -> Floats:
    """What the model answers as transformers runs it, before anything is changed for the export."""
    given: dict[str, Any] = {"input_ids": torch.from_numpy(probe.ids), "attention_mask": torch.from_numpy(probe.mask)}
    if "token_type_ids" in plan.inputs:
        given["token_type_ids"] = torch.from_numpy(probe.types)
    with torch.no_grad():
        output = plan.loaded.model(**given)
    if plan.entailment is not None:
        return np.asarray(output.logits.numpy(), np.float32)
    vectors = output.last_hidden_state
    if plan.pooling == "cls":
        pooled = vectors[:, 0]
    else:
        shown = given["attention_mask"].unsqueeze(-1).float()
        pooled = (vectors * shown).sum(dim=1) / shown.sum(dim=1)
    return np.asarray(nn.functional.normalize(pooled, dim=-1).numpy(), np.float32)


def _write_graph(
    plan: _Plan,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    gate: Gate,
    made: Path,
    progress: Callable[[str], None],
) -> int:
    """Writes the model, stage by stage.

    Returns:
        How many layers have their attention in one operator.
    """

    def checked(stage: str, model: ir.Model, precision: Precision) -> None:
        progress(f"  comparing what is {stage}")
        found = gate.check(stage, graph.save(model, made), precision)
        progress(f"    worst {found.worst:.2g} of {found.limit:.2g}, in a batch {found.batch_worst:.2g}")

    precision = plan.request.precision
    attention.prepare(plan.loaded.model)
    progress("  exporting")
    model = _exported(plan)
    checked("exported", model, "fp32")
    progress("  optimising")
    model = rewriting.optimise(model)
    fused = _count_fused(plan, model)
    checked("optimised", model, "fp32")
    if precision == "int7":
        progress("  measuring activations")
        ranges = calibration.measure(
            model, tokenizer, texts, made, longest=plan.max_length, pairs=plan.entailment is not None
        )
        progress("  quantising")
        checked("int7", quantising.quantise(model, ranges, plan.request.activations), "int7")
    elif precision == "fp16":
        progress("  exporting in half precision")
        plan.loaded.model.half()
        checked("fp16", rewriting.optimise(_exported(plan)), "fp16")
    return fused


def _exported(plan: _Plan) -> ir.Model:
    module: nn.Module
    if plan.pooling is not None:
        module = Embedding(plan.loaded.model, plan.pooling, token_types=plan.loaded.token_types)
        return graph.export(module, plan.inputs, "embedding", "texts")
    module = (TypedLogits if "token_type_ids" in plan.inputs else Logits)(plan.loaded.model)
    return graph.export(module, plan.inputs, "logits", "pairs")


def _count_fused(plan: _Plan, model: ir.Model) -> int:
    found, expected = len(rewriting.fused_attention(model)), attention.expected_fused(plan.loaded.model.config)
    if found < expected and not plan.request.allow_unfused:
        raise ExportError(
            f"the graph has {found} fused attentions and the model {expected} layers: it would run, slowly; add"
            " --allow-unfused if that will do"
        )
    return found


def _manifest(plan: _Plan, gate: Gate, made: Path, fused: int) -> Manifest:
    request, config = plan.request, plan.loaded.model.config
    names = [name for name in (MODEL_FILE, WEIGHTS_FILE, TOKENIZER_FILE) if (made / name).exists()]
    return Manifest(
        name=_plain(request.name or plan.source.name),
        task=request.task,
        precision=request.precision,
        activations=request.activations if request.precision == "int7" else "none",
        dimensions=config.hidden_size if plan.entailment is None else config.num_labels,
        prefix=plan.prefix,
        temperature=request.temperature or TEMPERATURE[request.task],
        max_length=plan.max_length,
        entailment=plan.entailment,
        licence=request.licence or plan.source.licence or "unknown",
        source=plan.source.described,
        revision=plan.source.revision,
        opset=graph.OPSET,
        parity=gate.report(),
        fused_attention=fused,
        builder=f"stream-classifier-export, recipe {RECIPE}",
        files={name: sha256_of(made / name) for name in names},
    )


def _plain(name: str) -> str:
    """A name as results carry it: what has no place in it becomes a hyphen."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or MANIFEST_FILE.partition(".")[0]
