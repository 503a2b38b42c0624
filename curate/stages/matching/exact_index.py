"""Find which of some hashes a sorted list has, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORD_BYTES = 8


def find_listed(listed: NDArray[np.uint8], queries: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which queries are listed.

    Args:
        listed: [M, W] bytes, sorted as texts are, W >= 8.
        queries: [N, W].

    Returns:
        [N]. A query is compared whole with those that share its first 8 bytes; in a list of
        digests these are one or none.
    """
    heads, wanted = _heads(listed), _heads(queries)
    places = np.searchsorted(heads, wanted, side="left")
    ends = np.searchsorted(heads, wanted, side="right")
    found = np.zeros(len(queries), bool)
    open_rows = np.flatnonzero(places < ends)
    while len(open_rows):
        same = (listed[places[open_rows]] == queries[open_rows]).all(axis=1)
        found[open_rows[same]] = True
        places[open_rows] += 1
        open_rows = open_rows[~same & (places[open_rows] < ends[open_rows])]
    return found


def _heads(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Give the first 8 bytes of each as a number that sorts as the bytes do: [M, W] -> [M]."""
    first = np.ascontiguousarray(digests[:, :_WORD_BYTES])
    return first.view(">u8")[:, 0].astype(np.uint64)
