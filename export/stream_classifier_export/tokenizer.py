"""A model's tokenizer as one tokenizer.json, and the proof that it gives the same ids."""

from pathlib import Path
from typing import Final

from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from stream_classifier.errors import ExportError
from stream_classifier_export import structbert
from stream_classifier_export.probes import HYPOTHESES, TEXTS
from stream_classifier_export.source import Source

_VOCABULARIES: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")

_NO_LIMIT: Final = 1_000_000
"""transformers writes 1e30 for "no limit"."""


def load(source: Source) -> PreTrainedTokenizerBase:
    """Loads transformers' own tokenizer for a model, without any code of the model's own.

    Raises:
        ExportError: It cannot be loaded, or has no fast form.
    """
    is_structbert = source.config.get("model_type") == structbert.MODEL_TYPE
    _check_there(source, ("vocab.txt",) if is_structbert else _VOCABULARIES)
    try:
        if is_structbert:
            # ModelScope lower-cases, and its directories do not say so.
            tokenizer = BertTokenizer.from_pretrained(source.directory, do_lower_case=True, local_files_only=True)
        else:
            tokenizer = AutoTokenizer.from_pretrained(
                source.directory, trust_remote_code=False, local_files_only=True, use_fast=True
            )
    except Exception as error:  # transformers and tokenizers raise whatever comes, bare Exception too
        raise ExportError(
            f"the tokenizer of {source.name} cannot be loaded ({type(error).__name__}): see that {source.directory} has"
            " a tokenizer.json, or a vocab.txt or SentencePiece model with its tokenizer_config.json"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError(f"the tokenizer of {source.name} has no fast form, which a tokenizer.json needs")
    return tokenizer


def longest(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The longest text that the tokenizer's own settings allow; None when they do not say."""
    limit = tokenizer.model_max_length
    return int(limit) if limit is not None and limit < _NO_LIMIT else None


def write(
    tokenizer: PreTrainedTokenizerBase, path: Path, *, vocabulary: int, pad_id: int | None, pairs: bool
) -> Tokenizer:
    """Writes a tokenizer.json, and reads it again.

    Args:
        tokenizer: transformers' own.
        path: Of the file.
        vocabulary: How many ids the model has vectors for.
        pad_id: The id that the model takes for padding; None where it does not look.
        pairs: Whether the model takes pairs of texts.

    Returns:
        The tokenizer as the file has it; it cuts nothing off.

    Raises:
        ExportError: It has ids that the model has not, or gives others than transformers' own.
    """
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    # Fewer is usual, since tables are rounded up; far fewer is a tokenizer that has lost its vocabulary.
    if not vocabulary / 2 < fast.get_vocab_size() <= vocabulary:
        raise ExportError(
            f"the tokenizer has {fast.get_vocab_size()} ids and the model vectors for {vocabulary}: they do not belong"
            " together"
        )
    if tokenizer.pad_token_id is None:
        raise ExportError("the tokenizer has no token for padding: name one (pad_token) in its tokenizer_config.json")
    if pad_id is not None and pad_id != tokenizer.pad_token_id:
        raise ExportError(
            f"the tokenizer pads with id {tokenizer.pad_token_id} and the model's positions leave out id {pad_id}: they"
            " do not belong together"
        )
    fast.no_truncation()
    fast.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    fast.save(str(path), pretty=False)
    written = Tokenizer.from_file(str(path))
    _compare(tokenizer, written, pairs=pairs)
    return written


def _compare(tokenizer: PreTrainedTokenizerBase, written: Tokenizer, *, pairs: bool) -> None:
    for number, text in enumerate(TEXTS):
        pair = (text, HYPOTHESES[number % len(HYPOTHESES)]) if pairs else (text,)
        expected, actual = tokenizer(*pair, return_token_type_ids=True), written.encode(*pair)  # one pads nothing
        if actual.ids != list(expected["input_ids"]) or actual.type_ids != list(expected["token_type_ids"]):
            raise ExportError("the tokenizer.json that was written gives other ids than the model's own tokenizer")


def _check_there(source: Source, names: tuple[str, ...]) -> None:
    """Refuses a directory without a vocabulary: transformers would make up one of a few special tokens."""
    if not any(path.is_file() for name in names for path in source.directory.glob(name)):
        raise ExportError(
            f"{source.directory} has no vocabulary: the tokenizer needs the file that the model was trained with"
            f" ({' or '.join(names)})"
        )
