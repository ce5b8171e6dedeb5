"""Attention as the exported graph has it: one operator a layer, and a mask that is added to the scores.

transformers asks whoever implements attention for the mask too. Its own is one of booleans, and a graph in which a
token sees no other at all (padding, under ModernBERT's sliding window) then divides by zero, and what is not a number
spreads. Here what is hidden is a large negative number instead: such a token sees all others evenly, nobody sees it,
and no number is lost. What may be seen by whom, windows included, transformers still says itself.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from stream_classifier.errors import ExportError

_NAME: Final = "stream_classifier_export"

_UNFUSED: Final = frozenset({"deberta", "deberta-v2", "mpnet"})
"""Their attention adds terms of its own to the scores, by relative position: it stays several operators."""


def expected_fused(config: object) -> int:
    """How many layers' attention becomes one operator."""
    if getattr(config, "model_type", "") in _UNFUSED:
        return 0
    return int(getattr(config, "num_hidden_layers", 0))


def prepare(model: PreTrainedModel) -> None:
    """Has the model compute its attention in the form in which it is to be exported."""
    if expected_fused(model.config):
        AttentionInterface.register(_NAME, _one_operator)
        AttentionMaskInterface.register(_NAME, _added_mask)
        model.set_attn_implementation(_NAME)


def _one_operator(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention of [texts, heads, tokens, width], given back as [texts, tokens, heads, width]."""
    for name in ("position_bias", "softcap"):
        if others.get(name) is not None:
            raise ExportError(f"the attention of {type(module).__name__} has a {name}, which is not exported")
    attended = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return attended.transpose(1, 2), None


def _added_mask(
    *,
    q_length: int,
    kv_length: int,
    mask_function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    attention_mask: Tensor | None,
    dtype: torch.dtype = torch.float32,
    **_: object,
) -> Tensor:
    """What is added to the scores, [texts, 1, tokens, tokens]: 0, or half of the least number there is.

    Half, so that adding a score to it does not end at minus infinity.
    """
    first = torch.zeros((1, 1, 1, 1), dtype=torch.long)
    queries = torch.arange(q_length)[None, None, :, None]
    keys = torch.arange(kv_length)[None, None, None, :]
    seen = mask_function(first, first, queries, keys)
    if attention_mask is not None:
        seen = seen & attention_mask[:, None, None, :].bool()
    return torch.where(seen, 0.0, torch.finfo(dtype).min / 2).to(dtype)
