"""Look samples up among the hashes of turned and flipped pictures, and name the picture once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.stages.matching.hash_index import HashIndex


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FormMatches:
    """Hold pairs of a query and a form within the radius: [P] each, sorted by (query, form).

    Args:
        query: row of the query.
        form: place of the form.
        entry: row of the picture that it is a form of.
        distance: bits.
    """

    query: NDArray[np.int64]
    form: NDArray[np.int64]
    entry: NDArray[np.int64]
    distance: NDArray[np.float32]

    def take(self, chosen: NDArray[np.bool_]) -> FormMatches:
        """Give some of the pairs."""
        return FormMatches(
            query=self.query[chosen],
            form=self.form[chosen],
            entry=self.entry[chosen],
            distance=self.distance[chosen],
        )

    def nearest(self) -> Iterator[tuple[int, int, float]]:
        """Yield (query, entry, distance) of each picture a query meets, by its nearest form."""
        order = np.lexsort((self.distance, self.entry, self.query))
        query, entry = self.query[order], self.entry[order]
        is_first = np.r_[True, (query[1:] != query[:-1]) | (entry[1:] != entry[:-1])][: len(order)]
        chosen = order[is_first]
        yield from zip(
            self.query[chosen].tolist(),
            self.entry[chosen].tolist(),
            self.distance[chosen].tolist(),
            strict=True,
        )


class FormIndex:
    """Find hashes among the forms of pictures.

    Args:
        hashes: [F] or [F, 4], uint64, of the forms.
        entries: [F], row of the picture of each.
    """

    def __init__(self, hashes: NDArray[np.uint64], entries: NDArray[np.int64]) -> None:
        self._index = HashIndex(hashes) if len(hashes) else None
        self._entries = entries

    def within(self, queries: NDArray[np.uint64], radius: int) -> FormMatches:
        """Find all forms within a radius of each query."""
        if self._index is None or not len(queries):
            none = np.empty(0, np.int64)
            return FormMatches(query=none, form=none, entry=none, distance=none.astype(np.float32))
        found = self._index.within(queries, radius)
        return FormMatches(
            query=found.query,
            form=found.entry,
            entry=self._entries[found.entry],
            distance=found.distance,
        )
