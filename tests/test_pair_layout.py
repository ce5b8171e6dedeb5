"""Texts tokenised once each and joined are the pair, token for token: against the tokenizers library's own pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from stream_classifier.errors import BundleError
from stream_classifier.model.pair_layout import Truncation, kept
from stream_classifier.model.tokenizer import PairTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIECES = ("parcel", "the", "un", "##able", "##s", "to", "refund", "快", "递", "我", "！", "'", "a", "s")
TEXTS = st.one_of(
    st.text(max_size=20),
    st.lists(st.sampled_from(["parcels", "The", "unable", " ", "快递", "我要！", "[SEP]", "</s>", "refund's", "é"]))
    .map(" ".join)
    .map(str.strip),
)


def word_piece() -> Tokenizer:
    """As BERT's, with its own kind of post-processor."""
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *PIECES)
    made = Tokenizer(models.WordPiece({token: n for n, token in enumerate(tokens)}, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def word_piece_by_template() -> Tokenizer:
    made = word_piece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def unigram() -> Tokenizer:
    """As XLM-RoBERTa's: two separators, all of type 0."""
    tokens = ("<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁parcel", *PIECES)
    made = Tokenizer(models.Unigram([(token, -0.1 * n) for n, token in enumerate(tokens)], unk_id=3))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def byte_level() -> Tokenizer:
    """As RoBERTa's and BART's, with its own kind of post-processor."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ("<s>", "<pad>", "</s>", *alphabet, "th", "the", "Ġp")
    vocabulary = {token: n for n, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("th", "e"), ("Ġ", "p")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<s>", "<pad>", "</s>"])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made


def byte_level_in_sequence() -> Tokenizer:
    """As newer ones: several post-processors after each other, and types that tell the texts apart."""
    made = byte_level()
    template = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s>:0 $A:0 </s>:1 $B:2 </s>:3", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return made


KINDS = (word_piece, word_piece_by_template, unigram, byte_level, byte_level_in_sequence)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, PairTokenizer]:
    """The library's tokenizer, and ours of the same file."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made: Tokenizer = request.param()
    made.save(str(path))
    return made, PairTokenizer(path, prefix="")


@settings(deadline=None)
@given(premise=TEXTS, hypothesis=TEXTS)
def test_joined_texts_are_the_pair(both: tuple[Tokenizer, PairTokenizer], premise: str, hypothesis: str) -> None:
    library, ours = both
    pair = library.encode(premise, hypothesis)
    first, second = ours.encode([premise, hypothesis])
    assert ours.layout.join(first, second) == pair.ids
    assert ours.layout.join_types(len(first), len(second)) == pair.type_ids


@settings(deadline=None, max_examples=300)
@given(
    premise=st.integers(0, 12),
    hypothesis=st.integers(0, 12),
    max_length=st.integers(6, 20),
    truncation=st.sampled_from(["only_first", "longest_first"]),
)
def test_a_pair_is_truncated_as_the_library_truncates_it(
    both: tuple[Tokenizer, PairTokenizer], premise: int, hypothesis: int, max_length: int, truncation: Truncation
) -> None:
    """Given two texts of any lengths, when they do not fit, then the same tokens are left of each.

    (Where `only_first` leaves no room for any of the premise, the library fails; such hypotheses are refused.)
    """
    library, ours = both
    room = max_length - ours.layout.special_tokens
    if truncation == "only_first" and hypothesis >= room:
        return
    texts = "a " * premise, "s " * hypothesis
    first, second = ours.encode(texts)
    if truncation == "only_first" and len(second) >= room:
        return
    library.enable_truncation(max_length, strategy=truncation)
    pair = library.encode(*texts)
    library.no_truncation()
    of_first, of_second = kept(len(first), len(second), room, truncation)
    assert ours.layout.join(first[:of_first], second[:of_second]) == pair.ids
    assert ours.layout.join_types(of_first, of_second) == pair.type_ids


@pytest.mark.parametrize("kind", KINDS)
def test_the_prefix_stands_before_both_texts(kind: Callable[[], Tokenizer], tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made = kind()
    made.save(str(path))
    ours = PairTokenizer(path, prefix="the parcel: ")
    pair = made.encode("the parcel: a", "the parcel: s")
    assert ours.layout.join(*ours.encode(["a", "s"])) == pair.ids


def test_truncation_and_padding_in_the_file_are_not_used(tmp_path: Path) -> None:
    """A file may say how its maker padded and truncated; a text is tokenised as long as it is."""
    path = tmp_path / "tokenizer.json"
    made = word_piece()
    made.enable_truncation(5)
    made.enable_padding(length=32, pad_id=7)
    made.save(str(path))
    ours = PairTokenizer(path, prefix="")
    assert ours.pad_id == 7
    assert [len(ids) for ids in ours.encode(["a " * 40, "a"])] == [40, 1]


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ("[CLS] $B [SEP] $A:1 [SEP]:1", "not its two texts"),
        ("[CLS] $A [SEP] $A [SEP] $B [SEP]", "the special tokens of a pair depend on its texts"),
        ("[CLS] $A $B [SEP]", "nothing stands between"),
    ],
)
def test_a_layout_that_cannot_be_understood_is_one_line(pair: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made = word_piece()
    specials = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=specials)
    made.save(str(path))
    with pytest.raises(BundleError, match=reason) as caught:
        PairTokenizer(path, prefix="")
    assert "\n" not in str(caught.value)
    assert "tokenizer.json: how it joins a pair of texts cannot be understood" in str(caught.value)


def test_no_post_processor_puts_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))  # noqa: S106 - a token
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(path))
    with pytest.raises(BundleError, match="nothing stands between the texts"):
        PairTokenizer(path, prefix="")
