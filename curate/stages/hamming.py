"""Find all pairs of 64-bit hashes within a Hamming radius, by sorted pigeonhole blocks.

Two hashes that differ in at most r bits agree on at least `blocks - r` of the blocks they are cut
into, so only pairs that agree on some such choice of blocks are compared. Exact: no pair is lost.
Source: reference curation.md section 4 (1 M hashes at radius 4 in 4.9 s; BK-trees 100x slower).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np

_BITS = 64
_MAX_RUN = 4096
"""Largest run of equal block values compared at once; chosen by us: 4096 rows x 4096 rows of
uint64 is 128 MB. Longer runs are compared in slices, so none is skipped."""


def near_pairs(hashes: np.ndarray, radius: int) -> list[tuple[int, int]]:
    """List index pairs (i < j) whose hashes differ in at most `radius` bits.

    Args:
        hashes: uint64 [N]; collapse equal samples first, a run of n equal hashes gives
            n * (n - 1) / 2 pairs.
        radius: bits, 0..8.

    Returns:
        Sorted pairs without repeats.
    """
    num_blocks = radius + 1 if radius < 4 else radius + 2
    pairs: set[tuple[int, int]] = set()
    for mask in _masks(num_blocks, num_blocks - radius):
        pairs |= _pairs_on_mask(hashes, mask, radius)
    return sorted(pairs)


def _masks(num_blocks: int, agreeing: int) -> Iterator[np.uint64]:
    """Yield bit masks of every choice of `agreeing` blocks."""
    edges = np.linspace(0, _BITS, num_blocks + 1).astype(int)
    blocks = [((1 << int(hi - lo)) - 1) << int(lo) for lo, hi in pairwise(edges)]
    for chosen in combinations(blocks, agreeing):
        yield np.uint64(sum(chosen))


def _pairs_on_mask(hashes: np.ndarray, mask: np.uint64, radius: int) -> set[tuple[int, int]]:
    """Compare the hashes that agree on the masked bits."""
    masked = hashes & mask
    order = np.argsort(masked, kind="stable")
    ordered = masked[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    stops = np.r_[starts[1:], len(ordered)]
    found: set[tuple[int, int]] = set()
    for start, stop in zip(starts, stops, strict=True):
        if stop - start > 1:
            found |= _pairs_in_run(hashes, order[start:stop], radius)
    return found


def _pairs_in_run(hashes: np.ndarray, run: np.ndarray, radius: int) -> set[tuple[int, int]]:
    """Compare all pairs of a run, slice by slice, so that memory stays bounded."""
    found: set[tuple[int, int]] = set()
    for start in range(0, len(run), _MAX_RUN):
        left = run[start : start + _MAX_RUN]
        for other in range(start, len(run), _MAX_RUN):
            right = run[other : other + _MAX_RUN]
            apart = np.bitwise_count(hashes[left][:, None] ^ hashes[right][None, :])
            for i, j in zip(*np.nonzero(apart <= radius), strict=True):
                a, b = int(left[i]), int(right[j])
                if a != b:
                    found.add((min(a, b), max(a, b)))
    return found
