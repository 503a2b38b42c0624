"""Find all pairs of hashes within a Hamming radius, each once: of all bands or of one.

    hashes -> equal ones collapsed -> for each band: sorted by its value -> runs of equal values
           -> each hash against the others of its run -> pairs within the radius

Exact as long as no run is heavy. A run of more than `max_run` hashes is split by finer bands over
its other bits, which is exact, too; what is heavy even then are hashes that are near each other by
the thousand (flat pictures), whose pairs nobody could hold: there each is compared with its next
neighbours in sorted order only, and the result says how many comparisons were left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.bands import Band, bands
from curate.stages.duplicates.hash_words import WORD_BITS, Words, check_radius, split_words
from curate.stages.duplicates.pairs import Pairs, order_pairs
from curate.stages.duplicates.runs import (
    Near,
    Runs,
    are_crowded,
    find_near,
    join_near,
    run_lengths,
    sort_by_value,
    sort_within_runs,
    telling_bits,
)

MAX_RUN = 256
"""Chosen by us: a hash meets 128 others of its run on average, about 0.5 us a band; random hashes
give runs of 1 to 100 at all sizes that `bands` chooses for."""
_UNEVEN = 8  # chosen by us: so many times the average are the longest runs of finer bands
_CHECKED = 1 << 18  # pairs whose earlier bands are looked up at once; chosen by us: a few MB
_NEIGHBOURS = 8
"""Chosen by us: comparisons of a hash in a run that stays heavy; 500,000 hashes in one run make at
most 4 million pairs a band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InBand:
    """Hold what one band found.

    Args:
        pairs: that agree on this band and on no earlier one.
        num_heavy_runs: runs that were not compared in full.
        num_skipped: comparisons that were left out in them.
    """

    pairs: Pairs
    num_heavy_runs: int
    num_skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Hold what a join found.

    Args:
        first: [N], int64: for each row the first row with an equal hash, often itself.
        pairs: of rows that are the first of their hash; within the radius and not equal.
        num_heavy_runs: over all bands.
        num_skipped: over all bands; a pair left out in two bands counts twice.
    """

    first: NDArray[np.int64]
    pairs: Pairs
    num_heavy_runs: int
    num_skipped: int


def pairs_in_band(
    hashes: NDArray[np.uint64], band: Band, radius: int, *, max_run: int = MAX_RUN
) -> InBand:
    """List the pairs within the radius that agree on this band and on none before it.

    Over all bands of a scheme no pair comes twice. Which pairs of crowded runs are compared depends
    on the hashes given, not on their order, where they are distinct.

    Args:
        hashes: uint64 [N] or [N, W]; equal ones are pairs like others, so collapse them first.
        band: one of `bands(num_bits, radius)`.
        radius: bits.
        max_run: hashes of equal value that are compared in full.

    Returns:
        Row numbers of `hashes`. Memory: about 50 bytes a hash and 90 a pair that is found.
    """
    words = split_words(hashes)
    check_radius(radius, len(words) * WORD_BITS)
    found = _search(words, band, radius, max_run)
    return InBand(
        pairs=_sorted(found.near),
        num_heavy_runs=found.num_heavy_runs,
        num_skipped=found.num_skipped,
    )


def join(hashes: NDArray[np.uint64], radius: int, *, max_run: int = MAX_RUN) -> Joined:
    """Find all pairs within the radius, equal hashes collapsed first.

    Memory: about 50 bytes a hash and 90 a pair that is found.

    Args:
        hashes: uint64 [N] (64 bits) or [N, W] (W words of 64 bits).
        radius: bits, 0..a quarter of the hash.
        max_run: see `pairs_in_band`.

    Raises:
        ConfigError: the radius is out of range.
        DataError: another type or shape of hashes.
    """
    words = split_words(hashes)
    scheme = bands(len(words) * WORD_BITS, radius, num_hashes=len(words[0]))
    first, rows = collapse_equal(words)
    distinct = tuple(word[rows] for word in words)
    bands_of_pairs = scheme if radius else []  # equal hashes are no pairs of distinct ones
    found = _add([_search(distinct, band, radius, max_run) for band in bands_of_pairs])
    return Joined(
        first=first,
        pairs=_sorted(found.near.renumbered(rows)),
        num_heavy_runs=found.num_heavy_runs,
        num_skipped=found.num_skipped,
    )


def collapse_equal(words: Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find equal hashes: words, each [N] -> first row of each row's hash [N], distinct rows [D].

    The distinct rows are those that are the first of their hash, in the order of hashes.
    """
    order = np.argsort(words[0]) if len(words) == 1 else np.lexsort(words[::-1])
    fresh = np.ones(len(order), np.bool_)
    if len(order):
        fresh[1:] = np.logical_or.reduce([word[order][1:] != word[order][:-1] for word in words])
    starts = np.flatnonzero(fresh)
    distinct = np.minimum.reduceat(order, starts) if len(starts) else order
    first = np.empty(len(order), np.int64)
    first[order] = np.repeat(distinct, np.diff(np.append(starts, len(order))))
    return first, distinct.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Hold unsorted near rows and what was left out."""

    near: Near
    num_heavy_runs: int = 0
    num_skipped: int = 0


def _search(words: Words, band: Band, radius: int, max_run: int) -> _Part:
    """Compare light runs in full and see to the heavy ones apart."""
    values = band.values_of(words)
    runs = sort_by_value(values, band.num_bits)
    lengths = run_lengths(runs)
    if not (lengths > max_run).any():
        return _Part(near=_compare(words, runs, band, radius))
    is_heavy = np.repeat(lengths > max_run, lengths)
    light = _Part(near=_compare(words, runs.take(~is_heavy), band, radius))
    heavy = sort_within_runs(words, values, runs.take(is_heavy))
    if band.within is not None:
        return _add([light, _compare_neighbours(words, heavy, band, radius)])
    crowded = np.repeat(are_crowded(words, heavy, radius), run_lengths(heavy))
    few = _compare_neighbours(words, heavy.take(crowded), band, radius)
    split = _split(words, heavy.take(~crowded), band, radius, max_run)
    return _add([light, few, split])


def _split(words: Words, heavy: Runs, band: Band, radius: int, max_run: int) -> _Part:
    """Search heavy runs by bands of those bits that tell their hashes apart."""
    if not len(heavy.rows):
        return _add([])
    num_hashes = int(run_lengths(heavy).max()) * _UNEVEN
    finer = band.finer(radius, telling_bits(words, heavy), num_hashes)
    if not finer:
        return _compare_neighbours(words, heavy, band, radius)
    part = tuple(word[heavy.rows] for word in words)
    found = _add([_search(part, one, radius, max_run) for one in finer])
    return replace(found, near=found.near.renumbered(heavy.rows))


def _compare_neighbours(words: Words, heavy: Runs, band: Band, radius: int) -> _Part:
    """Compare each hash of some runs with the next few in the order of hashes."""
    lengths = run_lengths(heavy)
    beyond = np.maximum(lengths - 1 - _NEIGHBOURS, 0)  # of the first of a run; 1 less for the next
    return _Part(
        near=_compare(words, heavy, band, radius, max_apart=_NEIGHBOURS),
        num_heavy_runs=len(lengths),
        num_skipped=int((beyond * (beyond + 1) // 2).sum()),
    )


def _compare(
    words: Words, runs: Runs, band: Band, radius: int, max_apart: int | None = None
) -> Near:
    """List the near pairs of runs that agree on no earlier band."""
    in_band = Counter(field.word for field in band.fields)
    order = sorted(range(len(words)), key=lambda word: in_band[word])  # unequal bits come first
    near = find_near(tuple(words[word] for word in order), runs, radius, max_apart)
    parts: list[Near] = []
    for some in _gathered(near):
        first = band.is_first(tuple(word[some.one] ^ word[some.other] for word in words))
        parts.append(some.take(first))
    return join_near(parts)


def _gathered(near: Iterator[Near]) -> Iterator[Near]:
    """Join small lists into larger ones: a check of bands costs much a list and little a pair."""
    parts: list[Near] = []
    for some in near:
        parts.append(some)
        if sum(len(part.bits) for part in parts) >= _CHECKED:
            yield join_near(parts)
            parts = []
    yield join_near(parts)


def _add(parts: Sequence[_Part]) -> _Part:
    return _Part(
        near=join_near([part.near for part in parts]),
        num_heavy_runs=sum(part.num_heavy_runs for part in parts),
        num_skipped=sum(part.num_skipped for part in parts),
    )


def _sorted(near: Near) -> Pairs:
    return order_pairs(near.one, near.other, near.bits.astype(np.float32))
