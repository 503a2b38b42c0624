"""Runs: what is bounded is counted to the last comparison, and blocks have no edges."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from curate.core.seed import make_rng
from curate.stages.duplicates import hamming, runs
from curate.stages.duplicates.bands import bands
from curate.stages.duplicates.hamming import join, pairs_in_band
from curate.stages.duplicates.runs import are_crowded, run_lengths, sort_by_value

Found = list[tuple[int, int, int]]


def brute_force(hashes: np.ndarray, radius: int) -> Found:
    words = hashes.reshape(len(hashes), -1)
    apart = np.bitwise_count(words[:, None] ^ words[None, :]).sum(axis=2, dtype=int)
    return [
        (a, b, int(apart[a, b])) for a, b in combinations(range(len(hashes)), 2)
        if apart[a, b] <= radius
    ]  # fmt: skip


def listed(found: hamming.InBand | hamming.Joined) -> Found:
    pairs = found.pairs
    bits = pairs.distance.astype(int).tolist()
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), bits, strict=True))


def in_one_run(num: int) -> np.ndarray:
    """Give hashes of one bit beyond the first band's: equal on it, and 2 bits from each other."""
    (field,) = bands(64, 4, num_hashes=1000)[0].fields
    others = [bit for bit in range(64) if not field.shift <= bit < field.shift + field.width]
    return np.uint64(1) << np.array(others[:num], np.uint64)


@pytest.mark.parametrize("num", [10, 20, 40])
def test_what_a_crowded_run_leaves_out_is_counted_to_the_last_comparison(num: int) -> None:
    found = pairs_in_band(in_one_run(num), bands(64, 4, num_hashes=1000)[0], 4, max_run=9)
    compared = sum(min(8, num - 1 - place) for place in range(num))
    assert len(found.pairs) == compared
    assert found.num_skipped == num * (num - 1) // 2 - compared
    assert found.num_heavy_runs == 1


def test_a_run_of_as_many_as_may_be_is_compared_in_full() -> None:
    band = bands(64, 4, num_hashes=1000)[0]
    few = in_one_run(20)
    more = in_one_run(21) | np.uint64(1 << band.fields[0].shift)  # another value of the band
    found = pairs_in_band(np.concatenate([few, more]), band, 4, max_run=20)
    of_few = [pair for pair in listed(found) if pair[1] < 20]
    assert of_few == brute_force(few, 4)
    assert found.num_heavy_runs == 1
    assert len(found.pairs) < 190 + 210


def test_a_join_adds_up_what_its_bands_left_out() -> None:
    rng = make_rng(0, "few bits")
    bits = np.uint64(1) << rng.integers(0, 64, (2000, 3), np.uint64)
    hashes = np.unique(np.bitwise_or.reduce(bits, axis=1))
    joined = join(hashes, 4, max_run=64)
    scheme = bands(64, 4, num_hashes=len(hashes))
    parts = [pairs_in_band(hashes, band, 4, max_run=64) for band in scheme]
    assert joined.num_heavy_runs == sum(part.num_heavy_runs for part in parts) > 5
    assert joined.num_skipped == sum(part.num_skipped for part in parts)
    assert listed(joined) == sorted(pair for part in parts for pair in listed(part))


@pytest.mark.parametrize(("radius", "num_bits"), [(4, 3), (2, 2), (3, 3)])
def test_a_heavy_run_that_too_few_bits_tell_apart_is_not_dropped(
    radius: int, num_bits: int
) -> None:
    hashes = np.arange(1 << num_bits, dtype=np.uint64) << np.uint64(7)
    joined = join(hashes, radius, max_run=3)
    assert listed(joined) == brute_force(hashes, radius)
    assert joined.num_heavy_runs > 0  # compared with 8 neighbours, which are all there are


def test_a_crowd_within_a_heavy_run_is_bounded_not_dropped() -> None:
    rng = make_rng(1, "crowd within")
    far = rng.integers(0, 1 << 48, 1500, np.uint64) << np.uint64(16)
    crowd = far[:1] ^ (np.uint64(1) << np.arange(18, 58, dtype=np.uint64))
    hashes = np.concatenate([far, crowd])  # all agree on the first band
    joined = join(hashes, 4, max_run=16)
    found = listed(joined)
    assert set(found) <= set(brute_force(hashes, 4))
    of_crowd = [pair for pair in found if pair[0] >= 1500]
    assert {row for left, right, _ in of_crowd for row in (left, right)} == {*range(1500, 1540)}
    assert len(of_crowd) >= 40 * 8 - 36
    assert joined.num_heavy_runs > 0


def test_values_wider_than_a_word_do_not_mix_heavy_runs() -> None:
    rng = make_rng(2, "wide values")
    one = rng.integers(0, 2**64, (200, 4), np.uint64)
    one[:, 0] &= np.uint64(0xFFFF_FF00_0000_0000)  # equal on the 40 bits of the first band
    one[1::2] = one[::2]
    one[1::2, 3] ^= np.uint64(0b11)
    other = one.copy()
    other[:, 0] |= np.uint64(1 << 39)  # another value of it
    hashes = np.concatenate([one, other])
    joined = join(hashes, 3, max_run=50)
    assert bands(256, 3, num_hashes=400)[0].num_bits <= 40
    assert listed(joined) == brute_force(hashes, 3)
    for band in bands(256, 3, num_hashes=10_000_000)[:1]:
        pairs = listed(pairs_in_band(hashes, band, 3, max_run=50))
        assert all((left < 200) == (right < 200) for left, right, _ in pairs)
        assert len(pairs) == 200


@pytest.mark.parametrize("num_bits", [64, 256])
def test_blocks_have_no_edges(monkeypatch: pytest.MonkeyPatch, num_bits: int) -> None:
    rng = make_rng(3, "blocks")
    hashes = rng.integers(0, 2**64, (200, num_bits // 64), np.uint64)
    hashes[50:] = hashes[rng.integers(0, 50, 150)]
    hashes[50:, 0] ^= np.uint64(1) << rng.integers(0, 64, 150, np.uint64)
    hashes = np.unique(hashes, axis=0)
    hashes = hashes[:, 0] if num_bits == 64 else hashes
    expected = brute_force(hashes, 2)
    monkeypatch.setattr(runs, "_BLOCK", 7)
    monkeypatch.setattr(hamming, "_CHECKED", 5)
    assert listed(join(hashes, 2)) == expected
    assert len(expected) > 200


def test_the_first_of_equal_hashes_is_the_first_row() -> None:
    values = make_rng(4, "equal").integers(0, 5, 3000, np.uint64)
    expected = [int(np.flatnonzero(values == value)[0]) for value in values]
    assert join(values, 1).first.tolist() == expected
    wide = np.stack([values, values], axis=1)
    assert join(wide, 1).first.tolist() == expected


def test_values_of_all_bits_are_sorted_like_small_ones() -> None:
    for values, bits in (([1 << 63, 0, 1 << 63, 0], 64), ([1, 0, 1, 0], 1)):
        found = sort_by_value(np.array(values, np.uint64), bits)
        assert found.rows.tolist() == [1, 3, 0, 2]
        assert found.same.tolist() == [True, False, True, False]


def test_a_run_is_crowded_where_its_hashes_are_near_each_other() -> None:
    rng = make_rng(5, "crowded")
    near = np.uint64(1) << np.arange(60, dtype=np.uint64)
    far = rng.integers(0, 2**64, 60, np.uint64)
    some = np.concatenate([far[:50], near[:4]])
    words = (np.concatenate([near, far, some]),)
    found = sort_by_value(np.repeat(np.arange(3, dtype=np.uint64), (60, 60, 54)), 2)
    assert run_lengths(found).tolist() == [60, 60, 54]
    assert are_crowded(words, found, 4).tolist() == [True, False, False]
