"""Models of transformers, small enough to be made in a test: of random weights, but whole, as they lie in a directory.

Weights are drawn wide enough that attention looks somewhere and classes differ; as transformers draws them, every text
would get the same logits to three digits, and nothing could be told apart.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ModernBertModel,
    PreTrainedConfig,
    PreTrainedModel,
    RoFormerConfig,
    RoFormerForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
    logging,
)

from stream_classifier_export.probes import HYPOTHESES, TEXTS

logging.disable_progress_bar()

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.35,
}
LAYERS = 2
LABELS = {0: "contradiction", 1: "neutral", 2: "entailment"}
STRUCTBERT_LABELS = {0: "entailment", 1: "neutral", 2: "contradiction"}

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'#@-+:()"
_WORDS = ("parcel", "refund", "account", "where", "is", "my", "delivery", "example", "about", "money", "back", "the")
_CHINESE = sorted({character for text in (*TEXTS, *HYPOTHESES) for character in text if "一" <= character <= "鿿"})
PIECES = (*_WORDS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *_CHINESE)


def bert(directory: Path, *, task: str, labels: dict[int, str] | None = None, positions: int = 64) -> Path:
    """With a vocab.txt and no tokenizer.json, as the older ones have it."""
    words = _vocabulary_file(directory, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    _write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    config = BertConfig(vocab_size=words, max_position_embeddings=positions, **SIZE, **_labels(task, labels))
    return _save(directory, BertForSequenceClassification if task == "entailment" else BertModel, config)


def xlm_roberta(directory: Path, *, task: str) -> Path:
    """66 rows of positions, of which 64 are for tokens; two separators between the texts of a pair."""
    special = ("<s>", "<pad>", "</s>", "<unk>")
    words = _unigram(directory, special, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    config = XLMRobertaConfig(vocab_size=words, max_position_embeddings=66, type_vocab_size=1, **SIZE, **_labels(task))
    return _save(directory, XLMRobertaForSequenceClassification if task == "entailment" else XLMRobertaModel, config)


def deberta(directory: Path, *, task: str) -> Path:
    """Version 2, with the settings of the published version 3: buckets of relative positions, shared projections."""
    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    words = _unigram(directory, special, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    config = DebertaV2Config(
        vocab_size=words,
        max_position_embeddings=64,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        **(SIZE | {"initializer_range": 0.25}),  # three products add up in its attention, where others have one
        **_labels(task),
    )
    return _save(directory, DebertaV2ForSequenceClassification, config)


def modernbert(directory: Path, *, task: str) -> Path:
    """Every second layer sees no farther than 8 tokens, so that padding sees nothing at all."""
    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    words = _unigram(directory, special, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")
    config = ModernBertConfig(
        vocab_size=words,
        max_position_embeddings=64,
        local_attention=16,
        global_attn_every_n_layers=2,
        classifier_pooling="mean",
        pad_token_id=0,
        cls_token_id=1,
        bos_token_id=1,
        sep_token_id=2,
        eos_token_id=2,
        **SIZE,
        **_labels(task),
    )
    return _save(directory, ModernBertForSequenceClassification if task == "entailment" else ModernBertModel, config)


def structbert(directory: Path, *, task: str, prefix: str = "encoder.") -> Path:
    """As ModelScope has it: pickled, its own names, keys of training, a vocabulary and no word about lower case."""
    bert(directory, task=task, labels=STRUCTBERT_LABELS)
    (directory / "tokenizer_config.json").unlink()
    weights = BertForSequenceClassification.from_pretrained(directory).state_dict()
    renamed = {name.replace("bert.", prefix, 1): tensor for name, tensor in weights.items()}
    renamed[prefix + "embeddings.position_ids"] = torch.arange(64)[None]
    torch.save(renamed, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    config = json.loads((directory / "config.json").read_bytes())
    for key in ("architectures", "id2label", "label2id", "dtype", "transformers_version"):
        config.pop(key, None)
    config |= {"model_type": "structbert", "adv_grad_factor": None, "adv_bound": None, "sigma": 5e-6}
    config |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}
    if prefix == "encoder.":
        config["base_model_prefix"] = "encoder"
    _write_json(directory / "config.json", config)
    _write_json(directory / "configuration.json", {"framework": "pytorch", "task": "zero-shot-classification"})
    return directory


def roformer(directory: Path, *, task: str) -> Path:
    """Another that looks like BERT, with an attention that becomes no single operator."""
    words = _vocabulary_file(directory, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    _write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    config = RoFormerConfig(
        vocab_size=words, max_position_embeddings=64, embedding_size=32, pad_token_id=0, **SIZE, **_labels(task)
    )
    return _save(directory, RoFormerForSequenceClassification, config)


MAKERS: dict[str, Callable[..., Path]] = {
    "bert": bert,
    "xlm-roberta": xlm_roberta,
    "deberta-v2": deberta,
    "modernbert": modernbert,
    "structbert": structbert,
}


def make(directory: Path, architecture: str, task: str) -> Path:
    """A model of this architecture. The same arguments give the same weights."""
    return MAKERS[architecture](directory, task=task)


def _labels(task: str, labels: dict[int, str] | None = None) -> dict[str, Any]:
    if task != "entailment":
        return {}
    names = LABELS if labels is None else labels
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}


def _save(directory: Path, architecture: type[PreTrainedModel], config: PreTrainedConfig) -> Path:
    torch.manual_seed(7)
    architecture(config).save_pretrained(directory)
    return directory


def _vocabulary_file(directory: Path, special: tuple[str, ...]) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    words = (*special, *PIECES)
    (directory / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return len(words)


def _unigram(directory: Path, special: tuple[str, ...], single: str, pair: str) -> int:
    """A tokenizer.json as SentencePiece models become one."""
    directory.mkdir(parents=True, exist_ok=True)
    pieces = [*special, "▁", *(f"▁{word}" for word in _WORDS), *_LETTERS, *_CHINESE]
    tokenizer = Tokenizer(
        models.Unigram(
            [(piece, -float(place)) for place, piece in enumerate(pieces)], unk_id=special.index(special[-1])
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(list(special))
    ids = [(token, number) for number, token in enumerate(special)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    tokenizer.save(str(directory / "tokenizer.json"))
    first, _, last = single.split()
    padding = next(token for token in special if "pad" in token.lower())
    unknown = next(token for token in special if "unk" in token.lower())
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": padding,
            "unk_token": unknown,
            "cls_token": first,
            "sep_token": last,
        },
    )
    return len(pieces)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
