"""A model's files become a PyTorch model, in float32 and without any code of the model's own."""

import pickle
import struct
import warnings
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedModel,
)

from stream_classifier.errors import ExportError
from stream_classifier.model.bundle import FEWEST_TOKENS, Task
from stream_classifier_export import structbert
from stream_classifier_export.source import Source

_DAMAGED: Final = (
    pickle.UnpicklingError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading weights may end with: a pickle is a program for a small machine, and a damaged one does anything."""


class Checkpoint(NamedTuple):
    """A model in PyTorch, ready to be run.

    Attributes:
        model: The model; of similarity without a head.
        positions: The longest text in tokens that it has positions for.
        token_types: Whether it tells the two texts of a pair apart by types.
        vocabulary: How many token ids it has vectors for.
        pad_id: The id that its positions take for padding; None where positions do not depend on ids.
    """

    model: PreTrainedModel
    positions: int
    token_types: bool
    vocabulary: int
    pad_id: int | None


def load(source: Source, task: Task) -> Checkpoint:
    """Loads a model.

    Raises:
        ExportError: transformers does not know its architecture, or the weights do not fit it.
    """
    config, weights = _config(source), _read(source)
    if source.config.get("model_type") == structbert.MODEL_TYPE:
        weights = structbert.bert_weights(weights)
    if getattr(config, "is_encoder_decoder", False):
        raise ExportError(
            f"{source.name} is an encoder with a decoder ({config.model_type}): only encoders are exported"
        )
    try:
        architecture = (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING if task == "entailment" else MODEL_MAPPING)[
            type(config)
        ]
        model, info = architecture.from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )
    except (ValueError, RuntimeError, KeyError) as error:
        raise ExportError(
            f"{source.name} cannot be loaded as a model of {task} ({config.model_type}): see that config.json and the"
            " weights belong together"
        ) from error
    missing = sorted(name for name in info["missing_keys"] if not (task == "similarity" and name.startswith("pooler.")))
    if missing or info["mismatched_keys"]:
        names = ", ".join([*missing, *(str(key[0]) for key in info["mismatched_keys"])][:3])
        raise ExportError(
            f"the weights of {source.name} do not fit its config.json: {names} ... are missing or of another shape; a"
            " model of entailment needs its head of classification"
        )
    model.eval()
    return _described(model, source)


def _described(model: PreTrainedModel, source: Source) -> Checkpoint:
    positions, pad_id = int(model.config.max_position_embeddings), None
    table = _position_table(model)
    if table is not None:
        # RoBERTa's family counts positions from behind the padding's, so not all of the table is for tokens.
        pad_id = table.padding_idx
        positions = table.num_embeddings - (0 if pad_id is None else pad_id + 1)
    if positions < FEWEST_TOKENS:
        raise ExportError(f"{source.name} has positions for {positions} tokens: {FEWEST_TOKENS} are the fewest")
    return Checkpoint(
        model=model,
        positions=positions,
        token_types=getattr(model.config, "type_vocab_size", 0) > 1,
        vocabulary=int(model.get_input_embeddings().num_embeddings),
        pad_id=pad_id,
    )


def _position_table(model: PreTrainedModel) -> nn.Embedding | None:
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module
    return None


def _config(source: Source) -> Any:  # noqa: ANN401 - of a class for each architecture
    content = source.config
    if "auto_map" in content:
        raise ExportError(
            f"{source.name} needs code of its own (auto_map in config.json): only transformers' own models are exported"
        )
    if content.get("model_type") == structbert.MODEL_TYPE:
        content = structbert.bert_config(content)
    kind = content.get("model_type")
    if not isinstance(kind, str):
        raise ExportError(f"the config.json of {source.name} names no model_type: it is no model of transformers")
    try:
        config = AutoConfig.for_model(kind, **{key: value for key, value in content.items() if key != "model_type"})
    except (ValueError, TypeError, KeyError) as error:
        raise ExportError(
            f"transformers does not know {source.name}'s architecture, {kind}, or not its config.json: see that it is"
            " one of transformers' own, or upgrade that"
        ) from error
    if not hasattr(config, "max_position_embeddings"):
        raise ExportError(
            f"the config.json of {source.name} does not say how many positions it has ({kind}): it is not exported"
        )
    return config


def _read(source: Source) -> Mapping[str, Tensor]:
    """All tensors by name. Of a pickled file, tensors are read and nothing else."""
    weights: dict[str, Tensor] = {}
    for path in source.weights:
        try:
            if source.pickled:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # old files have torch's old classes
                    content = torch.load(path, map_location="cpu", weights_only=True)
            else:
                content = load_file(path)
        except _DAMAGED as error:
            raise ExportError(f"{path} is damaged, or holds more than tensors: get the file again") from error
        if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
            raise ExportError(f"{path} holds no weights by name: get the file again")
        weights |= content
    return weights
