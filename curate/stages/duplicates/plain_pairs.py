"""Find near hashes of forms in a band: each picture as it is against all forms of the others.

A picture's own forms are near to each other, and two turned or cut ones tell nothing, so a join of
all with all would mostly find what nobody asks for. Here a run of equal values costs its plain
hashes times all of its hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.bands import Band
from curate.stages.duplicates.hash_words import Words, split_words
from curate.stages.duplicates.runs import Near, join_near

_REACH = 16
"""Times `max_run`: the hashes before and behind it that a plain one is compared with in its run.
Chosen by us: a sample has up to 16 in it."""
_AT_ONCE = 1 << 19  # comparisons; chosen by us: 30 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPairs:
    """Hold pairs of different pictures, each once over all bands.

    Args:
        near: rows, one of the two plain.
        num_heavy_runs: runs that were not compared in full.
        num_skipped: comparisons that were left out in them.
    """

    near: Near
    num_heavy_runs: int
    num_skipped: int


def find_plain_pairs(
    hashes: NDArray[np.uint64],
    owners: NDArray[np.int64],
    plain: NDArray[np.bool_],
    band: Band,
    radius: int,
    *,
    max_run: int,
) -> PlainPairs:
    """List the pairs within the radius that agree on this band and on none before it.

    Args:
        hashes: uint64 [N] or [N, W].
        owners: [N], the picture of each.
        plain: [N], whether it is of the picture as it is.
        band: one of `bands(num_bits, radius)`.
        radius: bits.
        max_run: see `_REACH`.
    """
    words = split_words(hashes)
    values = band.values_of(words)
    order = np.lexsort([owners, *words[::-1], values])  # whatever order they came in
    ordered = tuple(word[order] for word in words)
    owner, is_plain, value = owners[order], plain[order], values[order]
    starts, ends = _run_ends(value)
    places = np.flatnonzero(is_plain)
    low = np.maximum(starts[places], places - _REACH * max_run)
    high = np.minimum(ends[places], places + 1 + _REACH * max_run)
    skipped = (ends - starts)[places] - (high - low)
    parts: list[Near] = []
    for one, other, bits in _near(ordered, places, low, high, radius):
        wanted = (owner[one] != owner[other]) & ~(is_plain[other] & (other < one))
        one, other, bits = one[wanted], other[wanted], bits[wanted]
        first = band.is_first(tuple(word[one] ^ word[other] for word in ordered))
        parts.append(Near(one=order[one[first]], other=order[other[first]], bits=bits[first]))
    return PlainPairs(
        near=join_near(parts),
        num_heavy_runs=len(np.unique(starts[places[skipped > 0]])),
        num_skipped=int(skipped.sum()),
    )


def _run_ends(value: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give for each place where its run of equal values starts and ends: [N] each."""
    cuts = np.flatnonzero(np.diff(value)) + 1
    bounds = np.concatenate([[0], cuts, [len(value)]])
    run = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return bounds[:-1][run], bounds[1:][run]


def _near(
    words: Words,
    places: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    radius: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16]]]:
    """Compare places with all from low to high, themselves too; yield who is near, and the bits."""
    counts = high - low
    ends = np.cumsum(counts)
    start = 0
    while start < len(places):
        before = int(ends[start] - counts[start])
        stop = max(start + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
        here, ending = counts[start:stop], ends[start:stop] - before
        other = np.repeat(low[start:stop] - (ending - here), here)
        other += np.arange(len(other))
        first, *rest = words
        bits = np.bitwise_count(np.repeat(first[places[start:stop]], here) ^ first[other])
        near = np.flatnonzero(bits <= radius)  # few: the rest of a pair is looked up for these
        one = places[start:stop][np.searchsorted(ending, near, side="right")]
        other, bits = other[near], bits[near].astype(np.uint16)
        for word in rest:
            bits = bits + np.bitwise_count(word[one] ^ word[other])
            left = bits <= radius
            one, other, bits = one[left], other[left], bits[left]
        yield one, other, bits
        start = stop
