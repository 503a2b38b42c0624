"""Count for each caption the samples whose captions are nearly the same.

    captions -> distinct words, with how many samples have them -> 16 MinHash bands
    one band's runs of equal values -> pairs -> not met in an earlier band -> Jaccard -> counts

Captions of equal words are one entry, so that a text of a million samples costs as much as one of
two. A band value that many different captions share (stock texts with a number in them) would make
n^2 / 2 pairs: there each is compared with its next `WINDOW` neighbours only, ordered so that alike
ones stand together. A count above `WINDOW` may therefore be too low; it is never too high.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.stages.matching.minhash import NUM_BANDS, Sets, bands_of, jaccard, word_sets
from curate.stages.matching.words import hash_words

WINDOW = 16  # chosen by us: more than COYO's cap of 10, and 16 comparisons a caption and band
MAX_WORDS = 512  # read of a caption; chosen by us: what T5 encoders of text-to-image models read
_PAIRS_AT_ONCE = 100_000  # chosen by us: 100 MB for captions of 30 words


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """Hold different captions.

    Args:
        texts: hash of the words in order, without repeats: uint64 [N].
        samples: how many have these words: int64 [N].
        sets: of words and pairs, none empty: [N].
    """

    texts: NDArray[np.uint64]
    samples: NDArray[np.int64]
    sets: Sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Hold what the captions of a shard come to.

    Args:
        texts: hash of each caption's words: uint64 [R].
        has_words: whether it has any: bool [R].
        captions: the different ones that have.
    """

    texts: NDArray[np.uint64]
    has_words: NDArray[np.bool_]
    captions: Captions


def collect_captions(captions: Sequence[str]) -> Collected:
    """Cut captions into words and join those of equal words; reads `MAX_WORDS` of each."""
    words = hash_words(captions, MAX_WORDS)
    has_words = words.counts > 0
    known = np.flatnonzero(has_words)
    texts, first, samples = np.unique(words.texts[known], return_index=True, return_counts=True)
    sets = word_sets(words).take(known[first])
    return Collected(
        texts=words.texts,
        has_words=has_words,
        captions=Captions(texts=texts, samples=samples.astype(np.int64), sets=sets),
    )


def count_near(
    captions: Captions, values: NDArray[np.uint64], band: int, min_jaccard: float
) -> NDArray[np.int64]:
    """Count for each caption the samples of near ones that it meets in this band first: int64 [N].

    Summed over all bands this is the number of samples with near captions, its own left out.

    Args:
        captions: all that have one of these values.
        values: of the band: uint64 [N].
        band: 0..NUM_BANDS - 1.
        min_jaccard: from which on captions are near, (0, 1].
    """
    rows = np.flatnonzero(_is_shared(values))
    bands = bands_of(captions.sets.take(rows))
    order = np.lexsort((captions.texts[rows], bands[:, (band + 1) % NUM_BANDS], values[rows]))
    rows, bands = rows[order], bands[order]
    counts = np.zeros(len(values), np.int64)
    for one, other in _neighbours(values[rows]):
        is_first = ~(bands[one, :band] == bands[other, :band]).any(axis=1)
        left, right = rows[one[is_first]], rows[other[is_first]]
        shares = jaccard(captions.sets.take(left), captions.sets.take(right))
        left, right = left[shares >= min_jaccard], right[shares >= min_jaccard]
        np.add.at(counts, left, captions.samples[right])
        np.add.at(counts, right, captions.samples[left])
    return counts


def _neighbours(
    values: NDArray[np.uint64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of places with equal values, at most `WINDOW` apart, a bounded number at a time.

    Args:
        values: equal ones stand together: uint64 [N].
    """
    for apart in range(1, WINDOW + 1):
        places = np.flatnonzero(values[apart:] == values[:-apart])
        for start in range(0, len(places), _PAIRS_AT_ONCE):
            some = places[start : start + _PAIRS_AT_ONCE]
            yield some, some + apart
        if not len(places):
            return


def _is_shared(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which values come more than once: uint64 [N] -> bool [N]."""
    order = np.argsort(values)
    is_same = np.r_[False, values[order][1:] == values[order][:-1], False]
    shared = np.empty(len(values), np.bool_)
    shared[order] = (is_same[1:] | is_same[:-1])[: len(values)]
    return shared
