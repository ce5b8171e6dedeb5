"""What is exported: a model with what comes after it, as one PyTorch module."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stream_classifier_export.request import Pooling


class Embedding(nn.Module):
    """Token ids and their mask to a vector of unit length for each text, float32 [texts, dimensions].

    Args:
        model: Gives vectors of tokens.
        pooling: The mean of the tokens' vectors, or the first token's.
        token_types: Whether the model tells two texts apart; here there is one, of type 0.
    """

    def __init__(self, model: PreTrainedModel, pooling: Pooling, *, token_types: bool) -> None:
        super().__init__()
        self._model = model
        self._pooling = pooling
        self._token_types = token_types

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        # One type for all tokens of all texts: the exporter folds its vector into a constant.
        types = {"token_type_ids": torch.zeros((1, 1), dtype=torch.long)} if self._token_types else {}
        vectors = self._model(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state.float()
        if self._pooling == "cls":
            pooled = vectors[:, 0]
        else:
            # A sum: the mean's divisor would cancel below. As a product with the mask, as a matrix of two equal rows:
            # for a single row ONNX Runtime has a kernel that adds up in an order which depends on the padding.
            rows = attention_mask.float().unsqueeze(1)
            pooled = torch.matmul(torch.cat([rows, rows], dim=1), vectors)[:, 0]
        return nn.functional.normalize(pooled, dim=-1)


class Logits(nn.Module):
    """Token ids and their mask to the logits of each pair, float32 [pairs, classes]."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self._model(input_ids=input_ids, attention_mask=attention_mask).logits.float()


class TypedLogits(nn.Module):
    """The same for a model that tells premise and hypothesis apart by token types."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self._model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).logits.float()
