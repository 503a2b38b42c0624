"""Choose the caption that a sample is shown with.

coin (key, epoch) -> the null caption, for guidance
coin (key, epoch) -> a source by its weight -> the sample's caption of it
                                            -> else its first in the order of weights
                                            -> else the null caption
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
        self._bounds = list(itertools.accumulate(mix.weights[s] for s in self.sources))
        self._last = sum(weight > 0 for weight in mix.weights.values()) - 1

    def draw(self, uniform: float) -> int:
        """Draw a source: its place among `sources`, never one of weight 0."""
        return bisect.bisect_right(self._bounds, uniform * self._bounds[-1], hi=self._last)

    def rank(self, sources: Sequence[str]) -> list[int]:
        """Give the place of each of a shard's sources, -1 for one that is never shown."""
        return [self.sources.index(s) if s in self.sources else -1 for s in sources]


def choose_caption(ranks: Sequence[int], wanted: int) -> int:
    """Choose among a sample's captions.

    Args:
        ranks: place of each caption's source in the mix, or -1.
        wanted: place of the source that was drawn.

    Returns:
        Number of the caption; -1 when none may be shown.
    """
    best = -1
    for number, rank in enumerate(ranks):
        if rank == wanted:
            return number
        if rank >= 0 and (best < 0 or rank < ranks[best]):
            best = number
    return best
