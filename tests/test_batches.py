"""Cutting by padded tokens, and the budget that halves and recovers. Both are pure."""

import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.classify.batches import RUN_TOKENS, cut, padded_tokens
from stream_classifier.classify.budget import RECOVERS_AFTER, TokenBudget

texts = st.lists(st.integers(1, 200), max_size=80)
budgets = st.integers(1, 600)


def cost(lengths: list[int], batches: list[list[int]]) -> int:
    return sum(padded_tokens([lengths[index] for index in batch]) + RUN_TOKENS for batch in batches)


def in_arrival_order(lengths: list[int], budget: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for index in range(len(lengths)):
        if batches and padded_tokens([lengths[i] for i in [*batches[-1], index]]) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def every_cut(indexes: list[int]) -> Iterator[list[list[int]]]:
    if not indexes:
        yield []
        return
    first, *rest = indexes
    for batches in every_cut(rest):
        yield [[first], *batches]
        for number, batch in enumerate(batches):
            yield [*batches[:number], [first, *batch], *batches[number + 1 :]]


@settings(deadline=None)
@given(texts, budgets)
def test_every_text_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    assert sorted(index for batch in cut(lengths, budget) for index in batch) == list(range(len(lengths)))


@settings(deadline=None)
@given(texts, budgets)
def test_no_batch_is_over_the_budget_unless_it_is_one_text(lengths: list[int], budget: int) -> None:
    for batch in cut(lengths, budget):
        assert len(batch) == 1 or padded_tokens([lengths[index] for index in batch]) <= budget


@settings(deadline=None)
@given(texts, budgets)
def test_it_never_costs_more_than_the_order_of_arrival(lengths: list[int], budget: int) -> None:
    assert cost(lengths, cut(lengths, budget)) <= cost(lengths, in_arrival_order(lengths, budget))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(1, 8) | st.integers(1, 40), max_size=6), st.integers(1, 30) | st.integers(1, 120))
def test_no_cut_at_all_costs_less(lengths: list[int], budget: int) -> None:
    """The sorting and the short cuts of the search lose nothing: every way to cut few texts is tried."""
    allowed = (
        batches
        for batches in every_cut(list(range(len(lengths))))
        if all(len(batch) == 1 or padded_tokens([lengths[index] for index in batch]) <= budget for batch in batches)
    )
    assert cost(lengths, cut(lengths, budget)) == min(cost(lengths, batches) for batches in allowed)


def test_texts_of_ordinary_lengths_waste_little_where_the_order_of_arrival_wastes_half() -> None:
    source = random.Random(0)  # noqa: S311 - only lengths
    lengths = [max(4, min(256, round(source.lognormvariate(3.1, 0.8)))) for _ in range(256)]
    useful = sum(lengths)
    assert cost(lengths, cut(lengths, 512)) < 1.15 * useful
    assert cost(lengths, in_arrival_order(lengths, 512)) > 1.8 * useful


def test_a_budget_is_halved_by_what_did_not_fit() -> None:
    budget = TokenBudget(512)
    budget.shrink(512)
    budget.shrink(512)  # another thread, which ran out of memory at the same time
    assert budget.tokens == 256
    budget.shrink(100)
    assert budget.tokens == 50


def test_a_budget_recovers_step_by_step_and_not_beyond_its_start() -> None:
    budget = TokenBudget(512)
    budget.shrink(300)
    seen = []
    for _ in range(3 * RECOVERS_AFTER):
        budget.good_window()
        seen.append(budget.tokens)
    assert sorted(set(seen)) == [150, 300, 512]
    assert seen.index(300) == RECOVERS_AFTER - 1


def test_trouble_starts_the_recovery_anew() -> None:
    budget = TokenBudget(512)
    budget.shrink(512)
    for _ in range(RECOVERS_AFTER - 1):
        budget.good_window()
    budget.shrink(512)
    budget.good_window()
    assert budget.tokens == 256


@given(st.lists(st.integers(1, 512)))
def test_a_budget_is_never_nothing(failed: list[int]) -> None:
    budget = TokenBudget(512)
    for tokens in failed:
        budget.shrink(tokens)
        assert 1 <= budget.tokens <= 512
