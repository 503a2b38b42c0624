"""Hash every run of n words of many texts.

A run is a polynomial of its words' hashes modulo 2^64, scattered at the end; runs of other lengths
have other hashes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.stages.matching.words import Words, mix

_BASE = np.uint64(0x9E3779B97F4A7C15)  # any odd number; this one is 2^64 over the golden ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Hold runs of words.

    Args:
        hashes: of each run: uint64 [G].
        rows: number of the text it is in, ascending: int64 [G].
    """

    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]


def runs_of(words: Words, n: int) -> Runs:
    """Hash all runs of n words; a text of fewer has none.

    Args:
        words: of N texts.
        n: words in a run, >= 1.
    """
    num_places = max(len(words.hashes) - n + 1, 0)
    hashes = np.zeros(num_places, np.uint64)
    for offset in range(n):
        hashes = hashes * _BASE + words.hashes[offset : offset + num_places]
    rows = np.repeat(np.arange(len(words.texts)), words.counts)[:num_places]
    is_inside = np.arange(num_places) + n <= words.ends[rows + 1]
    return Runs(hashes=mix(hashes[is_inside] + np.uint64(n)), rows=rows[is_inside])


def distinct(runs: Runs) -> Runs:
    """Leave out the runs that come again in the same text."""
    order = np.lexsort((runs.hashes, runs.rows))
    hashes, rows = runs.hashes[order], runs.rows[order]
    is_first = np.r_[True, (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])][: len(rows)]
    return Runs(hashes=hashes[is_first], rows=rows[is_first])
