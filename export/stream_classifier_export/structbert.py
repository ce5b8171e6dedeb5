"""StructBERT, as ModelScope publishes it: a BERT under other names.

Its weights are those of transformers' BERT, tensor by tensor. Some of its directories call the encoder `encoder` where
transformers says `bert`; older ones hold the table of positions' numbers, which is no weight. config.json has BERT's
keys, and three that only training read.

Source: modelscope 1.40, `modelscope/models/nlp/structbert` and `pipelines/nlp/zero_shot_classification_pipeline.py`:
pairs are [text, label], entailment is logit 0 and contradiction logit 2 whatever the configuration says, a pair that is
too long loses tokens of whichever is longer.
"""

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

MODEL_TYPE: Final = "structbert"

ENTAILMENT_ID: Final = 0
CONTRADICTION_ID: Final = 2
TEMPLATE: Final = "{}"
TRUNCATION: Final = "longest_first"
"""As ModelScope does. transformers' pipeline shortens the premise alone; the two differ only where the hypothesis is
longer than half of what fits, since until then the premise is the longer one."""

LABELS: Final = {0: "entailment", 1: "neutral", 2: "contradiction"}

_TRAINING_ONLY: Final = frozenset({"adv_grad_factor", "adv_bound", "sigma", "base_model_prefix"})


def bert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the BERT that it is."""
    kept = {key: value for key, value in config.items() if key not in _TRAINING_ONLY}
    classes = {int(key): value for key, value in kept.pop("id2label", LABELS).items()}
    kept.pop("label2id", None)
    kept.pop("num_labels", None)
    # The ids are fixed, and the names that a configuration has are not always there, or are LABEL_0.
    names = LABELS if len(classes) == len(LABELS) else classes
    return kept | {"model_type": "bert", "id2label": names, "label2id": {name: key for key, name in names.items()}}


def bert_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under transformers' names."""
    renamed = {}
    whole = any(name.startswith("encoder.embeddings.") for name in weights)
    for name, tensor in weights.items():
        if name.endswith("embeddings.position_ids"):
            continue
        renamed["bert." + name.removeprefix("encoder.") if whole and name.startswith("encoder.") else name] = tensor
    return renamed
