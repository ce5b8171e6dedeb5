"""The inputs on which an exported model is compared with the one it was made from."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Ids = NDArray[np.int64]

TEXTS: Final = (
    "where is my parcel",
    "The courier left it at the wrong door, and nobody answers the phone.",
    "I want my money back!",
    "我要退款",
    "外卖迟到了一个小时，饭都凉了，联系不上骑手。",
    "你好，请问这个手机支持5G吗？ I need it before Friday",
    "great service, thank you so much 👍",
    "My account was charged twice (ref. #A-1042), please look into it: €39.90 + €39.90.",
    "Ｆｕｌｌ－ｗｉｄｔｈ ＴＥＸＴ, İstanbul, naïve café, Straße, ﬁne",
    "ok",
    "¿Dónde está mi pedido? Ich habe noch nichts bekommen. Le colis n'est jamais arrivé.",
    "注文した商品がまだ届きません。 배송이 너무 늦어요. Где моя посылка? أين طلبي؟",
)
"""Short texts as they come in support, in several scripts. Nothing depends on what they say."""

HYPOTHESES: Final = ("This example is about delivery.", "refund", "这段文字是关于物流的。", "The customer is happy.")

_SHAPES: Final = ((1, 2), (3, 5), (8, 24), (4, 96))
_SEED: Final = 20240607


class Probe(NamedTuple):
    """One batch, padded.

    Attributes:
        ids: Token ids, int64 [texts, tokens].
        mask: 1 for tokens, 0 for padding, of the same shape.
        types: Token types, of the same shape.
    """

    ids: Ids
    mask: Ids
    types: Ids

    @property
    def shape(self) -> str:
        """Such as "8 x 24"."""
        return f"{self.ids.shape[0]} x {self.ids.shape[1]}"

    def alone(self) -> Iterator["Probe"]:
        """Each of its texts in a batch of its own, without padding."""
        for row, length in enumerate(self.mask.sum(axis=1)):
            yield Probe(*(array[row : row + 1, :length] for array in self))


def probes(tokenizer: Tokenizer, *, longest: int, pairs: bool) -> list[Probe]:
    """Batches of several shapes, the smallest and the longest among them, with texts of different lengths in each.

    Args:
        tokenizer: The bundle's, which cuts nothing off.
        longest: The longest text in tokens, special tokens included.
        pairs: Whether the model takes pairs.
    """
    random = np.random.default_rng(_SEED)
    shapes = [shape for shape in _SHAPES if shape[1] < longest] + [(2, longest)]
    return [_of_texts(tokenizer, longest, pairs), *(_at_random(tokenizer, random, *shape) for shape in shapes)]


def _of_texts(tokenizer: Tokenizer, longest: int, pairs: bool) -> Probe:
    if pairs:
        texts = [(text, HYPOTHESES[number % len(HYPOTHESES)]) for number, text in enumerate(TEXTS)]
        encodings = [tokenizer.encode(*pair) for pair in texts]
    else:
        encodings = [tokenizer.encode(text) for text in TEXTS]
    return pad(tokenizer, [(encoding.ids[:longest], encoding.type_ids[:longest]) for encoding in encodings])


def _at_random(tokenizer: Tokenizer, random: np.random.Generator, texts: int, tokens: int) -> Probe:
    """Texts of words at random, the first as long as the batch, the others shorter, each in its special tokens."""
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    words = np.array([number for number in range(tokenizer.get_vocab_size()) if number not in special])
    first, *_, last = tokenizer.encode("").ids or [int(words[0]), int(words[0])]
    lengths = [tokens, *random.integers(min(3, tokens), tokens, size=texts - 1, endpoint=True)]
    rows = []
    for length in lengths:
        ids = [first, *random.choice(words, size=length - 2).tolist(), last]
        rows.append((ids, [int(place >= length // 2) for place in range(length)]))
    return pad(tokenizer, rows)


def pad(tokenizer: Tokenizer, rows: Sequence[tuple[list[int], list[int]]]) -> Probe:
    """Makes one batch of texts, given as ids and token types."""
    padding = (tokenizer.padding or {"pad_id": 0})["pad_id"]
    shape = (len(rows), max(len(ids) for ids, _ in rows))
    probe = Probe(np.full(shape, padding), np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    for row, (ids, types) in enumerate(rows):
        probe.ids[row, : len(ids)] = ids
        probe.mask[row, : len(ids)] = 1
        probe.types[row, : len(ids)] = types
    return probe
