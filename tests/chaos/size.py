"""How much chaos: a little with all other tests, much with `make chaos`; and from which seed.

`CHAOS=full` makes it much; `CHAOS_SEED` and `CHAOS_ROUNDS` choose. Round n has the seed `CHAOS_SEED + n`, so that one
round is played again by its own seed and `CHAOS_ROUNDS=1`. The seed decides moments and victims; what the machine makes
of them is its own.
"""

from __future__ import annotations

import os
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ALO_CLASSIC, ALO_CONSUMER = ("at_least_once", "classic"), ("at_least_once", "consumer")
EO_CLASSIC, EO_CONSUMER = ("exactly_once", "classic"), ("exactly_once", "consumer")


@dataclass(frozen=True)
class Size:
    """What the environment asks for.

    Attributes:
        full: Whether this is `make chaos`.
        seed: Of the first round.
        rounds: None: as many as each test thinks right.
    """

    full: bool
    seed: int
    rounds: int | None

    def pick(self, short: int, full: int) -> int:
        """How many rounds of a test, or seconds."""
        return self.rounds or (full if self.full else short)

    def seeds(self, short: int, full: int) -> Iterator[tuple[int, random.Random]]:
        """The seed of each round, and the chance that comes of it."""
        for seed in range(self.seed, self.seed + self.pick(short, full)):
            yield seed, random.Random(seed)  # noqa: S311 - chance, not secrecy


def asked_for() -> Size:
    """What the environment asks for; a seed of its own each time when it names none."""
    rounds = os.environ.get("CHAOS_ROUNDS")
    return Size(
        full=os.environ.get("CHAOS") == "full",
        seed=int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10**6)),
        rounds=int(rounds) if rounds else None,
    )


def modes(*short: tuple[str, str]) -> list[tuple[str, str]]:
    """Which modes of delivery a test runs with, and which group protocols: these, and all of them with `make chaos`."""
    return [ALO_CLASSIC, ALO_CONSUMER, EO_CLASSIC, EO_CONSUMER] if asked_for().full else list(short)
