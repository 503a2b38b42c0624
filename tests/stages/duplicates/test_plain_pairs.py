"""Pictures as they are meet all forms of the others, each pair once over all bands."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.core.seed import make_rng
from curate.stages.duplicates.bands import bands
from curate.stages.duplicates.plain_pairs import find_plain_pairs

FORMS = 5


def draw(num: int, words: int) -> NDArray[np.uint64]:
    """Draw the forms of pictures, some near to those of others: [num * FORMS] or [.., words]."""
    rng = make_rng(1, "plain pairs", words)
    hashes = rng.integers(0, 2**64, (num * FORMS, words), np.uint64)
    hashes[1::FORMS] = hashes[::FORMS] ^ np.uint64(1)  # own forms are near, and tell nothing
    for row in range(0, num * FORMS - FORMS - 1, 3):
        flips = rng.integers(0, 64, rng.integers(0, 9)).astype(np.uint64)
        hashes[row + FORMS + 1] = hashes[row]
        hashes[row + FORMS + 1, -1] ^= np.bitwise_xor.reduce(
            np.uint64(1) << flips, initial=np.uint64(0)
        )
    return hashes[:, 0] if words == 1 else hashes


@pytest.mark.parametrize(("words", "radius"), [(1, 4), (1, 8), (4, 31)])
def test_pairs_are_those_of_comparing_all_with_all(words: int, radius: int) -> None:
    hashes = draw(60, words)
    owners = np.arange(len(hashes)) // FORMS
    plain = np.arange(len(hashes)) % FORMS == 0
    given = make_rng(2, "order").permutation(len(hashes))
    found: list[tuple[int, int, int]] = []
    for band in bands(64 * words, radius, num_hashes=len(hashes)):
        part = find_plain_pairs(
            hashes[given], owners[given], plain[given], band, radius, max_run=256
        )
        assert part.num_heavy_runs == part.num_skipped == 0
        ends = np.sort(np.stack([given[part.near.one], given[part.near.other]]), axis=0)
        found += zip(*ends.tolist(), part.near.bits.tolist(), strict=True)
    wide = hashes.reshape(len(hashes), -1)
    apart = np.bitwise_count(wide[:, None] ^ wide).sum(axis=2, dtype=np.int64)
    wanted = (apart <= radius) & (plain[:, None] | plain) & (owners[:, None] != owners)
    one, other = np.nonzero(np.triu(wanted, 1))
    expected = list(zip(one.tolist(), other.tolist(), apart[one, other].tolist(), strict=True))
    assert len(expected) > 30
    assert sorted(found) == expected


def test_a_crowded_run_is_bounded_and_counted() -> None:
    hashes = np.full(400, 7, np.uint64)
    owners, plain = np.arange(400) // 2, np.arange(400) % 2 == 0
    band = bands(64, 4, num_hashes=400)[0]
    part = find_plain_pairs(hashes, owners, plain, band, 4, max_run=2)
    assert part.num_heavy_runs == 1
    # Every plain hash looks at 32 places on each side, fewer at the ends of the run.
    looked = [min(399, n + 32) - max(0, n - 32) + 1 for n in range(0, 400, 2)]
    assert part.num_skipped == sum(400 - num for num in looked)
    assert 0 < len(part.near.bits) < sum(looked)
    full = find_plain_pairs(hashes, owners, plain, band, 4, max_run=256)
    assert (full.num_heavy_runs, full.num_skipped) == (0, 0)
    assert len(full.near.bits) == 200 * 199 // 2 * 3  # plain with plain, and either with a form


def test_nothing_gives_nothing() -> None:
    none = np.empty(0, np.int64)
    band = bands(64, 4, num_hashes=10)[0]
    part = find_plain_pairs(none.astype(np.uint64), none, none.astype(bool), band, 4, max_run=256)
    assert len(part.near.bits) == part.num_heavy_runs == part.num_skipped == 0
