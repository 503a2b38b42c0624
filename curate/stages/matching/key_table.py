"""Look numbers up by 64-bit keys, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class KeyTable:
    """Look values up by 64-bit keys: a sorted array, 16 bytes an entry.

    Args:
        keys: uint64 [K], repeats allowed.
        values: one for each: int64 [K].
    """

    def __init__(self, keys: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._values = values[order]

    def find(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give (place among the keys, value) of all pairs with such a key: int64 [H] each."""
        if not len(self._keys):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        low = np.searchsorted(self._keys, keys)
        places = np.flatnonzero(self._keys[np.minimum(low, len(self._keys) - 1)] == keys)
        low = low[places]
        counts = np.searchsorted(self._keys, keys[places], side="right") - low
        starts = np.cumsum(counts) - counts
        found = np.arange(counts.sum()) + np.repeat(low - starts, counts)
        return np.repeat(places, counts), self._values[found]
