"""Take equal hashes once, and give back all rows that had them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.hamming import collapse_equal
from curate.stages.duplicates.hash_words import Words
from curate.stages.matching.slots import Table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distinct:
    """Hold D distinct hashes among N, in the order in which they first come.

    Args:
        words: of the distinct hashes, each [D].
        rows: the first row of each: int64 [D], ascending.
        places: of each row's hash among the distinct ones: int64 [N].
    """

    words: Words
    rows: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, words: Words) -> Distinct:
        """Find the distinct ones among hashes: words, each [N]."""
        first, found = collapse_equal(words)
        rows = np.sort(found)
        return cls(
            words=tuple(np.ascontiguousarray(word[rows]) for word in words),
            rows=rows,
            places=np.searchsorted(rows, first),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def expand(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give all rows of some distinct hashes.

        Args:
            places: of the distinct hashes, repeats too: [P].

        Returns:
            (place in `places`, row) of each, by place, then by row.
        """
        if len(self.rows) == len(self.places):  # none repeats: its place is its row
            return np.arange(len(places)), places
        return Table.of(self.places, len(self.rows)).look_up(places)
