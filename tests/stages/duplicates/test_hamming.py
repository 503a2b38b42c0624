"""The join finds exactly the pairs that brute force finds, each once, and says what it left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate.core.errors import ConfigError, DataError
from curate.core.seed import make_rng
from curate.stages.duplicates.bands import bands
from curate.stages.duplicates.hamming import InBand, Joined, join, pairs_in_band
from curate.stages.duplicates.hash_words import pdq_words
from curate.stages.duplicates.pairs import Pairs


def brute_force(hashes: np.ndarray, radius: int) -> list[tuple[int, int, int]]:
    """Compare all with all: (left, right, bits), sorted."""
    words = hashes.reshape(len(hashes), -1)
    apart = np.bitwise_count(words[:, None] ^ words[None, :]).sum(axis=2, dtype=int)
    left, right = np.nonzero(np.triu(apart <= radius, k=1))
    return list(zip(left.tolist(), right.tolist(), apart[left, right].tolist(), strict=True))


def listed(pairs: Pairs) -> list[tuple[int, int, int]]:
    columns = (pairs.left.tolist(), pairs.right.tolist(), pairs.distance.astype(int).tolist())
    return list(zip(*columns, strict=True))


def expanded(joined: Joined, hashes: np.ndarray) -> list[tuple[int, int, int]]:
    """Spell out the pairs of equal hashes that a join leaves to its `first` column."""
    members: dict[int, list[int]] = {}
    for row, first in enumerate(joined.first.tolist()):
        members.setdefault(first, []).append(row)
    found = [
        (a, b, 0) for rows in members.values() for at, a in enumerate(rows) for b in rows[at + 1 :]
    ]
    for left, right, bits in listed(joined.pairs):
        found += [(min(a, b), max(a, b), bits) for a in members[left] for b in members[right]]
    return sorted(found)


def planted(num: int, num_bits: int, most: int, seed: int) -> np.ndarray:
    """Random hashes; every third is a copy of the one before with 0 to `most` bits flipped."""
    rng = make_rng(seed, "planted hashes", str(num_bits))
    hashes = rng.integers(0, 2**64, size=(num, num_bits // 64), dtype=np.uint64)
    for index in range(0, num - 1, 3):
        hashes[index + 1] = hashes[index]
        for bit in rng.choice(num_bits, size=index // 3 % (most + 1), replace=False).tolist():
            hashes[index + 1, bit // 64] ^= np.uint64(1 << bit % 64)
    return hashes[:, 0] if num_bits == 64 else hashes


@pytest.mark.parametrize("radius", [*range(9), 12, 16])
def test_pairs_of_64_bits_equal_brute_force(radius: int) -> None:
    hashes = planted(600, 64, radius + 2, seed=radius)
    expected = brute_force(hashes, radius)
    assert expanded(join(hashes, radius), hashes) == expected
    assert len(expected) >= 60


@pytest.mark.parametrize("radius", [0, 1, 15, 20, 31, 40])
def test_pairs_of_256_bits_equal_brute_force(radius: int) -> None:
    hashes = planted(600, 256, radius + 2, seed=radius)
    expected = brute_force(hashes, radius)
    assert expanded(join(hashes, radius), hashes) == expected
    assert len(expected) >= 60


@pytest.mark.parametrize(("num_bits", "radius"), [(64, 1), (64, 4), (64, 8), (256, 31)])
@pytest.mark.parametrize("num_hashes", [100, 100_000, 10_000_000])
def test_bands_of_every_fineness_find_each_pair_once(
    num_bits: int, radius: int, num_hashes: int
) -> None:
    hashes = planted(300, num_bits, radius + 2, seed=radius)
    scheme = bands(num_bits, radius, num_hashes=num_hashes)
    found = [listed(pairs_in_band(hashes, band, radius).pairs) for band in scheme]
    assert sorted(pair for some in found for pair in some) == brute_force(hashes, radius)


def test_a_pair_belongs_to_the_first_band_it_agrees_on() -> None:
    hashes = planted(300, 64, 6, seed=3)
    scheme = bands(64, 4)
    assert [band.number for band in scheme] == list(range(len(scheme)))
    values = [band.values(hashes) for band in scheme]
    for number, band in enumerate(scheme):
        for left, right, _ in listed(pairs_in_band(hashes, band, 4).pairs):
            agreeing = [of_band[left] == of_band[right] for of_band in values]
            assert agreeing.index(True) == number


def test_values_are_small_enough_to_sort_with_a_row_number() -> None:
    hashes = planted(100, 256, 0, seed=1)
    for radius in (0, 3, 31, 64):
        for band in bands(256, radius, num_hashes=10_000):
            assert band.num_bits <= 40
            assert int(band.values(hashes).max()) < 1 << band.num_bits


@pytest.mark.parametrize(("num_bits", "radius"), [(64, 4), (64, 8), (256, 31)])
def test_heavy_runs_whose_hashes_differ_elsewhere_lose_nothing(num_bits: int, radius: int) -> None:
    hashes = planted(1200, num_bits, radius + 2, seed=5)
    words = hashes.reshape(len(hashes), -1)
    words[:900, 0] &= np.uint64(0x0000_00FF_FFFF_FFFF)  # most agree on these 24 bits
    joined = join(hashes, radius, max_run=200)
    assert expanded(joined, hashes) == brute_force(hashes, radius)
    assert (joined.num_heavy_runs, joined.num_skipped) == (0, 0)


def near_uniform(num: int) -> np.ndarray:
    """Hashes with at most three bits set, all different."""
    rng = make_rng(0, "near-uniform hashes")
    bits = rng.integers(0, 64, size=(8 * num, 3), dtype=np.uint64)
    return rng.permutation(np.unique(np.bitwise_or.reduce(np.uint64(1) << bits, axis=1)))[:num]


def test_crowded_runs_are_bounded_and_counted() -> None:
    hashes = near_uniform(3000)
    joined = join(hashes, 4, max_run=64)
    expected = set(brute_force(hashes, 4))
    found = listed(joined.pairs)
    assert set(found) < expected
    assert len(found) < 100 * len(hashes) < len(expected)
    assert joined.num_heavy_runs > 0
    assert joined.num_skipped > len(expected) - len(found)


def test_bounded_pairs_depend_on_the_hashes_not_on_their_order() -> None:
    hashes = near_uniform(3000)
    order = make_rng(1, "order").permutation(len(hashes))
    for band in bands(64, 4, num_hashes=1000)[:3]:
        one = pairs_in_band(hashes, band, 4, max_run=64)
        other = pairs_in_band(hashes[order], band, 4, max_run=64)
        assert spelled(one, hashes) == spelled(other, hashes[order])
        assert one.num_skipped == other.num_skipped > 0


def spelled(found: InBand, hashes: np.ndarray) -> set[frozenset[int]]:
    columns = (hashes[found.pairs.left].tolist(), hashes[found.pairs.right].tolist())
    return {frozenset(pair) for pair in zip(*columns, strict=True)}


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 4), (1, 4)])
def test_few_hashes_are_no_trouble(shape: tuple[int, ...]) -> None:
    joined = join(np.zeros(shape, np.uint64), 4)
    assert len(joined.pairs) == 0
    assert joined.first.tolist() == list(range(shape[0]))


@pytest.mark.parametrize("shape", [(5000,), (5000, 4)])
def test_equal_hashes_are_collapsed_and_make_no_pairs(shape: tuple[int, ...]) -> None:
    joined = join(np.full(shape, 7, np.uint64), 8)
    assert joined.first.tolist() == [0] * 5000
    assert (len(joined.pairs), joined.num_skipped) == (0, 0)


@pytest.mark.parametrize(("shape", "most"), [((3,), 16), ((3, 4), 64)])
def test_a_radius_the_hash_does_not_allow_is_refused(shape: tuple[int, ...], most: int) -> None:
    hashes = np.zeros(shape, np.uint64)
    message = rf"radius: must be 0\.\.{most} for hashes of {4 * most} bits, got {most + 1}"
    with pytest.raises(ConfigError, match=message):
        join(hashes, most + 1)
    with pytest.raises(ConfigError, match="got -1"):
        join(hashes, -1)


def test_hashes_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match=r"must be uint64 .* got int64 \[3\]"):
        join(np.zeros(3, np.int64), 4)
    with pytest.raises(DataError, match=r"must be uint64 .* got uint64 \[3, 0\]"):
        join(np.zeros((3, 0), np.uint64), 4)


def test_pdq_bytes_become_words_of_the_same_distance() -> None:
    one, other = bytes(range(32)), bytes(32)
    words = pdq_words(pa.array([one, other], pa.binary(32)))
    assert words.shape == (2, 4)
    bits = sum(byte.bit_count() for byte in one)
    assert int(np.bitwise_count(words[0] ^ words[1]).sum()) == bits
    assert np.array_equal(pdq_words([one, other]), words)
    assert pdq_words(pa.array([], pa.binary(32))).shape == (0, 4)


def test_a_pdq_hash_that_is_missing_or_short_is_named_by_its_row() -> None:
    with pytest.raises(DataError, match=r"row 1: a PDQ hash must have 32 bytes, got nothing"):
        pdq_words(pa.array([bytes(32), None], pa.binary(32)))
    with pytest.raises(DataError, match=r"row 0: .* got 31 bytes"):
        pdq_words([bytes(31)])
