"""A PyTorch module to an ONNX graph, and the graph to a file."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx_ir as ir
import torch
from torch import nn

from stream_classifier.errors import ExportError
from stream_classifier.model.bundle import MODEL_FILE, WEIGHTS_FILE

OPSET: Final = 23
"""The first that has Attention."""

IR_VERSION: Final = 11
_SMALL_TENSOR: Final = 1024  # bytes; larger ones go to the file of the weights


def export(module: nn.Module, inputs: tuple[str, ...], output: str, rows: str) -> ir.Model:
    """Exports a module with any number of texts and of tokens.

    Args:
        module: Takes the inputs by position.
        inputs: Their names; all are int64 [rows, tokens].
        output: The name of what comes out.
        rows: What a row is called: texts or pairs.

    Returns:
        The graph, as PyTorch wrote it.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    # Anything but 0 and 1, which would be taken for constants.
    example = torch.ones((2, 7), dtype=torch.long)
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with quietly(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                tuple(example.clone() for _ in inputs),
                input_names=list(inputs),
                dynamic_shapes=tuple(sizes for _ in inputs),
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"PyTorch {torch.__version__} cannot export this architecture to ONNX: --debug shows why"
        ) from error
    if program is None:
        raise ExportError(f"PyTorch {torch.__version__} exported nothing")
    model: ir.Model = program.model
    model.ir_version = IR_VERSION
    model.producer_name = "stream-classifier"
    for value in model.graph.inputs:
        value.shape = ir.Shape([rows, "tokens"])
    [result] = model.graph.outputs
    for node in model.graph:
        for value in node.outputs:
            if value.name == output:  # PyTorch calls every look-up in a table an embedding
                value.name = f"{output}_inside"
    result.name = output
    result.shape = ir.Shape([rows, result.shape[-1] if result.shape is not None else None])
    return model


def save(model: ir.Model, directory: Path) -> Path:
    """Writes a graph and its weights into a directory.

    Returns:
        The graph's file.
    """
    path = directory / MODEL_FILE
    (directory / WEIGHTS_FILE).unlink(missing_ok=True)
    ir.save(model, path, external_data=WEIGHTS_FILE, size_threshold_bytes=_SMALL_TENSOR)
    return path


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """PyTorch and onnxscript tell of their own insides, and of packages that nothing here needs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
