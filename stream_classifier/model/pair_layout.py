"""How two texts become one row of tokens: the special tokens around them, and what a pair that is too long loses.

A tokenizer says this by its post-processor: `[CLS] premise [SEP] hypothesis [SEP]` for BERT, with types 0 and 1;
`<s> premise </s></s> hypothesis </s>` for RoBERTa. There are several kinds of post-processors, and they can be nested,
so it is not read from the file, but found by having pairs encoded and looking where the two texts are in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tokenizers import Encoding, Tokenizer

Truncation = Literal["only_first", "longest_first"]
Tokens = Sequence[int]

PROBES: Final = (("Where is my order?", "This text is about a parcel."), ("我的订单到哪里了", "快递"), ("a", "b"))
"""Pairs of which every tokenizer can encode some."""


@dataclass(frozen=True, slots=True)
class PairLayout:
    """What stands before, between and after the two texts of a pair.

    Attributes:
        ids: Of the special tokens before, between and after.
        types: Of the same tokens.
        premise_type: Of each token of the first text.
        hypothesis_type: Of each token of the second.
    """

    ids: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    types: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    premise_type: int
    hypothesis_type: int

    @property
    def special_tokens(self) -> int:
        """How many tokens a pair has besides those of its two texts."""
        return sum(map(len, self.ids))

    def join(self, premise: Tokens, hypothesis: Tokens) -> list[int]:
        """The ids of a pair."""
        before, between, after = self.ids
        return [*before, *premise, *between, *hypothesis, *after]

    def join_types(self, premise: int, hypothesis: int) -> list[int]:
        """The types of the tokens of a pair whose texts have so many tokens."""
        before, between, after = self.types
        of_premise, of_hypothesis = [self.premise_type] * premise, [self.hypothesis_type] * hypothesis
        return [*before, *of_premise, *between, *of_hypothesis, *after]


def layout_of(tokenizer: Tokenizer) -> PairLayout:
    """Find out how a tokenizer joins two texts.

    Raises:
        ValueError: It puts nothing between them, or does more than put special tokens around them.
    """
    layouts = {_layout_of_pair(tokenizer, *probe) for probe in PROBES} - {None}
    if len(layouts) != 1 or (layout := layouts.pop()) is None:
        raise ValueError("the special tokens of a pair depend on its texts")
    return layout


def _layout_of_pair(tokenizer: Tokenizer, premise: str, hypothesis: str) -> PairLayout | None:
    """What one pair shows; None when the vocabulary has nothing for one of its texts."""
    first = tokenizer.encode(premise, add_special_tokens=False).ids
    second = tokenizer.encode(hypothesis, add_special_tokens=False).ids
    if not first or not second:
        return None
    pair: Encoding = tokenizer.encode(premise, hypothesis)
    of = pair.sequence_ids  # of each token the text that it is of, None for a special token
    start, middle = of.index(0), of.index(1)  # every post-processor has both
    parts = (slice(0, start), slice(start + len(first), middle), slice(middle + len(second), None))
    before, between, after = (tuple(pair.ids[part]) for part in parts)
    types_before, types_between, types_after = (tuple(pair.type_ids[part]) for part in parts)
    layout = PairLayout(
        (before, between, after),
        (types_before, types_between, types_after),
        pair.type_ids[start],
        pair.type_ids[middle],
    )
    if layout.join(first, second) != pair.ids or layout.join_types(len(first), len(second)) != pair.type_ids:
        raise ValueError("the pair is not its two texts with special tokens around them")
    if not between:
        raise ValueError("nothing stands between the texts")
    return layout


def kept(premise: int, hypothesis: int, room: int, truncation: Truncation) -> tuple[int, int]:
    """How many tokens of each text a pair keeps, as the tokenizers library truncates pairs.

    `only_first` takes from the end of the premise. `longest_first` takes from the end of the longer one until both are
    equally long, and then from both; where one token is left over, the longer one has it, and of two equally long ones
    the hypothesis. (transformers' tokenizers in pure Python differ in that token: they give it to the premise.)

    Args:
        premise: Its tokens.
        hypothesis: Its tokens; with `only_first` less than the room.
        room: Tokens that a pair may have besides its special ones, at least 2.
        truncation: What a pair that is too long loses its end of.

    Returns:
        Tokens of the premise and of the hypothesis, together at most the room.
    """
    if premise + hypothesis <= room:
        return premise, hypothesis
    if truncation == "only_first":
        return room - hypothesis, hypothesis
    half = room // 2
    if min(premise, hypothesis) <= half:  # only the longer one has to give
        return (room - hypothesis, hypothesis) if premise > hypothesis else (premise, room - premise)
    return (room - half, half) if premise > hypothesis else (half, room - half)
