"""The pigeonhole join finds exactly the pairs that brute force finds."""

from __future__ import annotations

import numpy as np
import pytest

from curate.stages.duplicates.masks import band_masks, pairs_in_band


def near_pairs(hashes: np.ndarray, radius: int) -> list[tuple[int, int]]:
    """Join all bands, as dedup does."""
    found = [pairs_in_band(hashes & mask, hashes, radius) for mask in band_masks(radius)]
    return [(int(a), int(b)) for a, b in np.unique(np.concatenate(found), axis=0)]


def brute_force(hashes: np.ndarray, radius: int) -> list[tuple[int, int]]:
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    rows, columns = np.nonzero(np.triu(apart <= radius, k=1))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def planted(num: int, seed: int) -> np.ndarray:
    """Random hashes with copies that differ in 0 to 10 bits."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    hashes = rng.integers(0, 2**64, size=num, dtype=np.uint64)
    for index in range(0, num - 1, 3):
        bits = rng.choice(64, size=index % 11, replace=False)
        flip = np.uint64(sum(1 << int(bit) for bit in bits))
        hashes[index + 1] = hashes[index] ^ flip
    return hashes


@pytest.mark.parametrize("radius", range(9))
def test_pairs_equal_brute_force(radius: int) -> None:
    hashes = planted(400, seed=radius)
    expected = brute_force(hashes, radius)
    assert near_pairs(hashes, radius) == expected
    assert len(expected) >= 12 * (radius + 1) - 12


def test_few_hashes_are_no_trouble() -> None:
    assert near_pairs(np.zeros(0, np.uint64), 4) == []
    assert near_pairs(np.zeros(1, np.uint64), 4) == []
    assert near_pairs(np.zeros(3, np.uint64), 0) == [(0, 1), (0, 2), (1, 2)]
