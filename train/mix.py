"""Choose the caption that a sample is shown with.

coin (key, epoch) -> the null caption, for guidance
coin (key, epoch) -> a source by its weight -> the sample's caption of it
                                            -> else its first in the order of weights
                                            -> else the null caption
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionMix:
    """Say which caption a sample is shown with.

    A caption of a source that is not named is never shown. A source of weight 0 only stands in
    where a sample has none of the others.

    Args:
        weights: caption source -> weight, >= 0, with a positive sum.
        dropout_frac: share of samples shown with the null caption.
    """

    weights: Mapping[str, float]
    dropout_frac: float

    @property
    def sources(self) -> tuple[str, ...]:
        """List the sources, the heaviest first; equal ones in the order given."""
        return tuple(sorted(self.weights, key=lambda source: -self.weights[source]))


class CaptionChooser:
    """Choose sources and captions by the mix.

    Args:
        mix: weights.
    """

    def __init__(self, mix: CaptionMix) -> None:
        self.sources = mix.sources
        bounds = np.cumsum([mix.weights[source] for source in self.sources])
        self._bounds = bounds[bounds < bounds[-1]]  # behind the last are sources of weight 0
        self._total = bounds[-1]

    def draw(self, uniform: NDArray[np.float64]) -> Ints:
        """Draw sources: their places among `sources`, never one of weight 0; [N] of [N]."""
        return np.searchsorted(self._bounds, uniform * self._total, side="right")

    def rank(self, sources: Sequence[str]) -> list[int]:
        """Give the place of each of a shard's sources, -1 for one that is never shown."""
        return [self.sources.index(s) if s in self.sources else -1 for s in sources]


def choose_captions(owners: Ints, ranks: Ints, wanted: Ints) -> Ints:
    """Choose one caption of each of some samples.

    Args:
        owners: [C], the sample of each caption, ascending.
        ranks: [C], place of each caption's source in the mix, or -1.
        wanted: [N], place of the source that was drawn for each sample.

    Returns:
        [N], number of the caption; -1 where none may be shown.
    """
    everyone = np.arange(len(wanted))
    width = int(max(wanted.max(initial=0), ranks.max(initial=0))) + 1
    numbers = np.full((len(wanted), width), -1)
    usable = np.flatnonzero(ranks >= 0)[::-1]  # of two of one source the first stays
    numbers[owners[usable], ranks[usable]] = usable
    chosen = numbers[everyone, wanted]
    first = (numbers >= 0).argmax(axis=1)  # 0 where there is none, and there stands -1
    return np.where(chosen >= 0, chosen, numbers[everyone, first])
