"""Choose the bins of a histogram while scores stream by, in bounded memory.

Scores often have a long tail: one caption of 20,000 words would press all others into one bin. So
bins are even over the middle of the scores, and the outermost two reach the lowest and the highest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.schema import KEY

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

NUM_BINS = 50  # chosen by us: what a picture of 300 pixels can show
_MIDDLE = (0.005, 0.995)  # quantiles; chosen by us: the tails then stand in two bins
_MAX_SAMPLED = 10_000  # scores; chosen by us: fifty beyond each quantile


class ScoreBins:
    """See a rule's scores once, then say where its bins lie.

    The middle is that of the scores with the smallest keys: keys are hashes, so these are as good
    as drawn at random, whatever the sharding.
    """

    def __init__(self) -> None:
        self._sample = pa.table(
            {KEY: pa.array([], pa.string()), "score": pa.array([], pa.float64())}
        )
        self._ends = (math.inf, -math.inf)

    def add(self, keys: pa.ChunkedArray, scores: NDArray[np.float64]) -> None:
        """See a shard's scores: [N]; what is not finite does not count."""
        is_known = np.isfinite(scores)
        if not is_known.any():
            return
        known = scores[is_known]
        self._ends = min(self._ends[0], known.min()), max(self._ends[1], known.max())
        part = pa.table({KEY: keys.filter(pa.array(is_known)), "score": known})
        if self._sample.num_rows == _MAX_SAMPLED:  # full: only smaller keys may still enter
            part = part.filter(pc.less(part[KEY], pc.max(self._sample[KEY])))
        if part.num_rows:
            joined = pa.concat_tables([self._sample, part])
            order = [(KEY, "ascending")]
            places = pc.select_k_unstable(joined, k=_MAX_SAMPLED, sort_keys=order)
            self._sample = joined.take(places).combine_chunks()

    def edges(self, thresholds: Sequence[float]) -> NDArray[np.float64]:
        """Give the edges of the bins, [B + 1] with B at most NUM_BINS + 1; [0] without scores.

        Args:
            thresholds: shown too, unless one is so far off that it would squeeze the rest.
        """
        scores = self._sample["score"].to_numpy()
        if not len(scores):
            return np.zeros(0)
        low, high = (float(end) for end in np.quantile(scores, _MIDDLE, method="nearest"))
        span = high - low
        near = [end for end in thresholds if low - span <= end <= high + span]
        low, high = min([low, *near]), max([high, *near])
        if np.all(scores == np.round(scores)):  # whole numbers want bins of whole width
            step = math.ceil((high - low + 1) / NUM_BINS)
            edges = np.arange(math.floor(low) - 0.5, high + step, step)
        else:
            edges = np.linspace(low, high if high > low else low + 1.0, NUM_BINS + 1)
        edges[0], edges[-1] = min(edges[0], self._ends[0]), max(edges[-1], self._ends[1])
        return edges
