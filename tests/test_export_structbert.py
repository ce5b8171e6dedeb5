"""StructBERT as ModelScope publishes it: the same logits, the same scores by its rules, and its own vocabulary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_models
import torch
from exporting import answers, export_tiny, tiny_model
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification, BertTokenizer, pipeline

from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.opening import open_scorer
from stream_classifier.classify.scorer import Asked
from stream_classifier.model.bundle import read_manifest
from stream_classifier_export import checkpoint
from stream_classifier_export.making import export
from stream_classifier_export.probes import TEXTS
from stream_classifier_export.request import Request
from stream_classifier_export.source import find, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporting import Export
    from numpy.typing import NDArray

    from stream_classifier.model.bundle import Task

__all__ = ["export_tiny", "tiny_model"]

REAL = "STREAM_CLASSIFIER_STRUCTBERT_DIR"
"""Names a directory with the real weights, base or large, as ModelScope has them."""

LABELS = ("退款", "物流", "外卖", "手机", "骑手", "refund")
"""Words that the tiny vocabulary has."""
SHORT_TEXTS = [text for text in TEXTS if len(text) < 45]


def modelscope_scores(logits: NDArray[np.float32], *, multi: bool) -> NDArray[np.float32]:
    """ModelScope's rules, for the logits [labels, 3] of one text: entailment is 0 and contradiction 2.

    Source: modelscope 1.40, `ZeroShotClassificationPipeline.postprocess`.
    """
    if multi or len(logits) == 1:
        return np.asarray(torch.softmax(torch.from_numpy(logits[:, [2, 0]]), dim=-1)[:, 1].numpy())
    return np.asarray(torch.softmax(torch.from_numpy(logits[:, 0]), dim=-1).numpy())


@pytest.mark.parametrize("prefix", ["encoder.", "bert."])
def test_the_weights_under_either_name_are_those_of_a_bert(prefix: str, tmp_path: Path) -> None:
    tiny_models.bert(tmp_path / "bert", task="entailment", labels=tiny_models.STRUCTBERT_LABELS)
    tiny_models.structbert(tmp_path / "structbert", task="entailment", prefix=prefix)
    loaded = checkpoint.load(find(str(tmp_path / "structbert"), allow_pickled_weights=True), "entailment")
    expected = BertForSequenceClassification.from_pretrained(tmp_path / "bert")
    weights = loaded.model.state_dict()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, expected.eval()(ids).logits, atol=1e-6, rtol=0)


def test_the_manifest_asks_as_modelscope_does(export_tiny: Export) -> None:
    manifest = read_manifest(export_tiny("structbert", "entailment", precision="fp32"))
    assert manifest.entailment is not None
    assert manifest.entailment.model_dump() == {
        "entailment_id": 0,
        "contradiction_id": 2,
        "template": "{}",
        "truncation": "longest_first",
    }
    assert manifest.temperature == 1


@pytest.mark.parametrize(("labels", "multi"), [(LABELS, False), (LABELS, True), (LABELS[:1], False)])
def test_scores_are_those_of_transformers_pipeline_and_of_modelscopes_rules(
    labels: tuple[str, ...], multi: bool, export_tiny: Export, tmp_path: Path
) -> None:
    """Given the same weights as a BERT for transformers, then the bundle's scores are its zero-shot pipeline's."""
    mapped = tiny_models.bert(tmp_path / "bert", task="entailment", labels=tiny_models.STRUCTBERT_LABELS)
    classify = pipeline(
        "zero-shot-classification",
        model=BertForSequenceClassification.from_pretrained(mapped),
        tokenizer=BertTokenizer.from_pretrained(mapped),
    )
    bundle = export_tiny("structbert", "entailment", precision="fp32")
    label_set = LabelSet.adhoc(labels, mode="multi" if multi else "single")
    [scored] = open_scorer(bundle).score([Asked(label_set, SHORT_TEXTS)], Measures())
    spread = []
    for text, scores in zip(SHORT_TEXTS, scored.scores, strict=True):
        found: Any = classify(text, list(labels), hypothesis_template="{}", multi_label=multi)
        expected = dict(zip(found["labels"], found["scores"], strict=True))
        logits = answers(bundle, [(text, label) for label in labels])
        by_rule = modelscope_scores(logits, multi=multi)
        assert np.abs(by_rule - [expected[label] for label in labels]).max() < 1e-4
        assert np.abs(by_rule - scores).max() < 1e-4
        spread.append(max(expected.values()) - min(expected.values()))
    assert len(labels) == 1 or max(spread) > 0.05


def test_the_vocabulary_is_the_directorys_own(export_tiny: Export, tiny_model: Callable[[str, Task], Path]) -> None:
    """Lower case and single characters, though nothing in the directory says so; ids are the file's lines."""
    words = (tiny_model("structbert", "entailment") / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = Tokenizer.from_file(str(export_tiny("structbert", "entailment", precision="fp32") / "tokenizer.json"))
    encoding = tokenizer.encode("我要Refund", "WHERE is")
    assert encoding.tokens == ["[CLS]", "我", "要", "refund", "[SEP]", "where", "is", "[SEP]"]
    assert encoding.ids == [words.index(token) for token in encoding.tokens]
    assert encoding.type_ids == [0, 0, 0, 0, 0, 1, 1, 1]
    assert tokenizer.get_vocab_size() == len(words)


PUBLISHED_LABELS = ("家居", "旅游", "科技", "军事", "游戏", "故事")
PUBLISHED = {
    ("large", False): (0.12691, 0.28432, 0.11657, 0.12382, 0.14530, 0.20308),
    ("large", True): (0.26953, 0.78942, 0.28730, 0.27711, 0.41255, 0.52345),
    ("base", False): (0.08432, 0.51159, 0.06299, 0.05538, 0.11971, 0.16601),
    ("base", True): (0.07154, 0.89161, 0.08678, 0.09659, 0.16755, 0.42819),
}
"""Of the text below, in the order of PUBLISHED_LABELS: from the model cards of both on ModelScope."""


def test_the_real_weights_give_the_published_scores(tmp_path: Path) -> None:
    if REAL not in os.environ:
        pytest.skip(
            f"NOT RUN, the published scores of StructBERT were not compared: {REAL} names no directory with its weights"
        )
    source = Path(os.environ[REAL])
    bundle = tmp_path / "bundle"
    request = Request(source=str(source), out=bundle, task="entailment", precision="fp32", allow_pickled_weights=True)
    export(request, progress=print)
    size = "large" if read_json(source / "config.json")["hidden_size"] == 1024 else "base"
    logits = answers(bundle, [("世界那么大，我想去看看", label) for label in PUBLISHED_LABELS])
    for multi in (False, True):
        assert np.abs(modelscope_scores(logits, multi=multi) - PUBLISHED[size, multi]).max() < 1e-4
