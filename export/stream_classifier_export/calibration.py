"""Measuring the activations of a graph on texts, before it is quantised."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir
from tokenizers import Tokenizer

from stream_classifier.errors import ExportError
from stream_classifier.model.session import session_options
from stream_classifier_export import graph
from stream_classifier_export.probes import HYPOTHESES, pad
from stream_classifier_export.quantising import Range, products

FEWEST_TEXTS: Final = 50
_MOST_TEXTS: Final = 1000
_BATCH: Final = 8


def read_texts(path: Path) -> list[str]:
    """The texts of a file, one a line, up to 1,000.

    Raises:
        ExportError: It cannot be read, or has fewer than 50.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} cannot be read as UTF-8 text: give a file of texts, one a line") from error
    texts = [line.strip() for line in lines if line.strip()]
    if len(texts) < FEWEST_TEXTS:
        raise ExportError(
            f"{path} has {len(texts)} texts: static activations need {FEWEST_TEXTS} or more, as they come"
        )
    return texts[:_MOST_TEXTS]


def measure(
    model: ir.Model, tokenizer: Tokenizer, texts: Sequence[str], directory: Path, *, longest: int, pairs: bool
) -> dict[str, Range]:
    """Runs a graph on texts and keeps the range of each channel of what is to be made integers.

    Args:
        model: The graph in float32; it is not changed.
        tokenizer: Of the bundle.
        texts: What to run on.
        directory: For the files of the graph that tells its activations.
        longest: The longest text in tokens.
        pairs: Whether the model takes pairs.

    Returns:
        Ranges by the name of the activations.
    """
    names = list(dict.fromkeys(str(node.inputs[0].name) for node in products(model) if node.inputs[0] is not None))
    options = session_options()
    import onnxruntime  # noqa: PLC0415 - the line above has set its environment

    outputs = list(model.graph.outputs)
    seen = {str(value.name): value for node in model.graph for value in node.outputs}
    try:
        model.graph.outputs.extend(seen[name] for name in names)
        path = graph.save(model, directory)
    finally:
        del model.graph.outputs[len(outputs) :]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = [put.name for put in session.get_inputs()]
    ranges: dict[str, Range] = {}
    for start in range(0, len(texts), _BATCH):
        rows = []
        for number, text in enumerate(texts[start : start + _BATCH]):
            pair = (text, HYPOTHESES[number % len(HYPOTHESES)]) if pairs else (text,)
            encoding = tokenizer.encode(*pair)
            rows.append((encoding.ids[:longest], encoding.type_ids[:longest]))
        batch = pad(tokenizer, rows)
        values = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
        found = session.run(names, {name: values[name] for name in inputs})
        for name, activations in zip(names, found, strict=True):
            tokens = activations[batch.mask.astype(bool)]
            least, most = tokens.min(axis=0), tokens.max(axis=0)
            known = ranges.get(name, Range(least, most))
            ranges[name] = Range(np.minimum(known.least, least), np.maximum(known.most, most))
    return ranges
