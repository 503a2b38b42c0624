"""Deal an endless row of turns to parties in exact proportion, in an order that looks random.

    rounds of about 512 turns: before round k party p had (rate_p * turns * k + phase_p) // total
    inside a round:            the turns of all parties in a random order

Used twice by the plan: which bucket a step is of, and which data set an item of a bucket is from.
At every round's start each party is less than one turn from its exact share, for ever.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import derive_seed, make_rng

MAX_TURNS = 512  # chosen by us: the mean number of turns of a round


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Say whose some turns are.

    Args:
        parties: [N], int64.
        indices: [N], int64, how many turns the party had before.
    """

    parties: NDArray[np.int64]
    indices: NDArray[np.int64]


class Rounds:
    """Say whose turn it is, at any time at once.

    Args:
        rates: of each party, whole numbers > 0.
        num_turns: mean length of a round; shorter rounds keep shares tighter.
        seed: the run's seed.
        name: of these rounds; another name gives another order.
    """

    def __init__(self, rates: Sequence[int], num_turns: int, seed: int, *name: str | int) -> None:
        self._rates = tuple(rates)
        self._total = sum(rates)
        self._num_turns = num_turns
        self._seed = derive_seed(seed, "rounds", *name)
        # Without phases all rare parties would come in the same rounds.
        self._phases = [
            derive_seed(self._seed, "phase", party) % self._total for party in range(len(rates))
        ]
        self._round = functools.lru_cache(maxsize=4)(self._make_round)

    def turns(self, first: int, count: int) -> Turns:
        """Name the turns [first, first + count)."""
        parts: list[Turns] = []
        while count > 0:
            number = self._find(first)
            start = self._start(number)
            whole = self._round(number)
            chosen = slice(first - start, first - start + count)
            parts.append(Turns(parties=whole.parties[chosen], indices=whole.indices[chosen]))
            taken = len(parts[-1].parties)
            first, count = first + taken, count - taken
        return Turns(
            parties=np.concatenate([part.parties for part in parts]),
            indices=np.concatenate([part.indices for part in parts]),
        )

    def turns_before(self, number: int) -> list[int]:
        """Count each party's turns before a round."""
        reach = self._num_turns * number
        return [
            (rate * reach + phase) // self._total
            for rate, phase in zip(self._rates, self._phases, strict=True)
        ]

    def _start(self, number: int) -> int:
        return sum(self.turns_before(number))

    def _find(self, turn: int) -> int:
        """Find the round of a turn: a party is at most one turn off its share."""
        slack = len(self._rates) + 1
        low = max(0, (turn - slack) // self._num_turns)
        rounds = range(low, (turn + slack) // self._num_turns + 2)
        return low + bisect.bisect_right(rounds, turn, key=self._start) - 1

    def _make_round(self, number: int) -> Turns:
        before = np.array(self.turns_before(number), np.int64)
        after = np.array(self.turns_before(number + 1), np.int64)
        counts = after - before
        parties = np.repeat(np.arange(len(counts)), counts)
        make_rng(self._seed, "round", number).shuffle(parties)
        # A party's turns are numbered in the order in which they come.
        indices = np.empty_like(parties)
        indices[np.argsort(parties, kind="stable")] = np.concatenate(
            [np.arange(first, last) for first, last in zip(before, after, strict=True)]
        )
        return Turns(parties=parties, indices=indices)
