"""Find texts whose sets of words and pairs of words are alike: MinHash bands, then a true count.

    words -> set of words and of neighbouring pairs -> 80 minima -> 16 bands -> pairs -> Jaccard

Words tell what, pairs tell in which order. A caption of ten words that differs in one has Jaccard
.73, in its last word .81: runs of five words, which documents are compared by, would leave .1.

Two texts of Jaccard j agree in a band of 5 minima with j^5, in one of 16 bands with
1 - (1 - j^5)^16: .998 at j = .8, .40 at .5, .04 at .3. Candidates are then counted exactly, so
nothing false is found. Source: Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, 3.4; the two numbers are chosen by us for thresholds of .7 and more.

The minima come from rensa (MIT): the same numbers in every process for the same version of its
algorithm, which `algorithm()` tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.stages.matching.ngrams import runs_of
from curate.stages.matching.words import Words, mix, sorted_distinct

NUM_BANDS = 16
_ROWS = 5  # minima in a band
_SEED = 1  # of rensa's permutations; any number, but always the same
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SETS_AT_ONCE = 8192  # their minima are Python numbers for a moment: 25 MB; chosen by us
_NUM_VALUES = 2**31 - 1  # columns of a sparse matrix, which has 32-bit indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Hold one set of numbers for each of many texts.

    Args:
        values: of every set, sorted within it, set after set: int32 [S], >= 0.
        ends: where each set starts, and the end of the last: int64 [N + 1].
    """

    values: NDArray[np.int32]
    ends: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Give the number of values in each set: int64 [N]."""
        return np.diff(self.ends)

    def take(self, rows: NDArray[np.int64]) -> Sets:
        """Give the sets of some rows, in their order, repeats too."""
        sizes = self.sizes[rows]
        ends = np.r_[0, np.cumsum(sizes)]
        places = np.arange(ends[-1]) + np.repeat(self.ends[rows] - ends[:-1], sizes)
        return Sets(values=self.values[places], ends=ends)


def algorithm() -> int:
    """Give the version of rensa's algorithm: others have other bands."""
    return int(_rensa().ALGORITHM_VERSION)


def word_sets(words: Words) -> Sets:
    """Give the set of words and of pairs of neighbours of each text, as 31-bit hashes."""
    parts = [runs_of(words, n) for n in (1, 2)]
    keys = sorted_distinct(np.concatenate([_joined(part.rows, part.hashes) for part in parts]))
    rows = (keys >> np.uint64(32)).astype(np.int64)
    sizes = np.bincount(rows, minlength=len(words.texts))
    return Sets(values=keys.astype(np.int32), ends=np.r_[0, np.cumsum(sizes)])


def bands_of(sets: Sets) -> NDArray[np.uint64]:
    """Give the band values of each set: uint64 [N, NUM_BANDS]; those of empty sets are equal."""
    num_sets = len(sets.ends) - 1
    bands = np.empty((num_sets, NUM_BANDS), np.uint64)
    for start in range(0, num_sets, _SETS_AT_ONCE):
        some = np.arange(start, min(start + _SETS_AT_ONCE, num_sets))
        bands[some] = _bands_of_some(sets.take(some))
    return bands


def jaccard(left: Sets, right: Sets) -> NDArray[np.float64]:
    """Give the shared values over all values of each pair of sets, 0..1: float64 [P].

    Args:
        left: P sets; two empty ones share nothing: 0.
        right: P sets.
    """
    shared = np.diff(_matrix(left).multiply(_matrix(right)).indptr)
    return shared / np.maximum(left.sizes + right.sizes - shared, 1)


def _bands_of_some(sets: Sets) -> NDArray[np.uint64]:
    matrix = _rensa().digest_matrix_from_flat_token_hashes(
        sets.values.astype(np.uint64), sets.ends.astype(np.uint64), NUM_BANDS * _ROWS, _SEED
    )
    minima = np.array(matrix.to_rows(), np.uint64).reshape(-1, NUM_BANDS, _ROWS)
    bands = np.zeros(minima.shape[:2], np.uint64)
    for row in range(_ROWS):
        bands = mix(bands * _BASE + minima[:, :, row])
    return bands


def _matrix(sets: Sets) -> Any:
    """View sets as rows of a sparse matrix: a column for every value there can be."""
    from scipy.sparse import csr_array  # not at the top: commands that compare nothing start faster

    ones = np.ones(len(sets.values), np.int8)
    shape = (len(sets.ends) - 1, _NUM_VALUES)
    return csr_array((ones, sets.values, sets.ends.astype(np.int32)), shape=shape)


def _joined(rows: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put the number of a set above the first 31 bits of its hashes: [S], [S] -> uint64 [S]."""
    return rows.astype(np.uint64) << np.uint64(32) | hashes >> np.uint64(33)


def _rensa() -> Any:
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue], made in Rust

    return RMinHash
