"""Order samples as a pure function of (seed, keys, position): endless permutations, one an epoch.

Nothing is remembered between positions, so a run that goes on at sample n draws what a straight one
would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.core.seed import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """Name one sample of one epoch by its index among the keys."""

    index: int
    epoch: int


class SampleOrder:
    """Draw picks by position.

    Args:
        keys: of the samples, distinct; their order does not matter to which sample is drawn.
        seed: the run's seed.
    """

    def __init__(self, keys: Sequence[str], seed: int) -> None:
        assert keys, "an order needs samples"
        self._keys = keys
        self._seed = seed
        self._epoch = -1
        self._indices: list[int] = []

    def picks(self, start: int, count: int) -> list[Pick]:
        """Give `count` picks from a position on."""
        return [self._pick(position) for position in range(start, start + count)]

    def _pick(self, position: int) -> Pick:
        epoch, rank = divmod(position, len(self._keys))
        if epoch != self._epoch:
            self._epoch = epoch
            self._indices = sorted(range(len(self._keys)), key=self._draw)
        return Pick(index=self._indices[rank], epoch=epoch)

    def _draw(self, index: int) -> int:
        return derive_seed(self._seed, "captioner order", self._keys[index], self._epoch)
