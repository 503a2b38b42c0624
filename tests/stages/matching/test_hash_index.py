"""The index finds exactly the entries that comparing with all finds, as faiss does."""

from __future__ import annotations

import time

import numpy as np
import pytest

from curate.core.errors import ConfigError, DataError
from curate.core.seed import make_rng
from curate.stages.matching.hash_index import HashIndex, Matches

Found = list[tuple[int, int, int]]


def compare_all(queries: np.ndarray, entries: np.ndarray, radius: int) -> Found:
    apart = np.zeros((len(queries), len(entries)), int)
    for query, entry in zip(_words(queries), _words(entries), strict=True):
        apart += np.bitwise_count(query[:, None] ^ entry)
    query, entry = np.nonzero(apart <= radius)
    return list(zip(query.tolist(), entry.tolist(), apart[query, entry].tolist(), strict=True))


def _words(hashes: np.ndarray) -> list[np.ndarray]:
    return list(hashes.reshape(len(hashes), -1).T)


def listed(found: Matches) -> Found:
    columns = (found.query.tolist(), found.entry.tolist(), found.distance.astype(int).tolist())
    return list(zip(*columns, strict=True))


def planted(num_entries: int, num_queries: int, num_bits: int, most: int) -> list[np.ndarray]:
    """A list with repeats, and queries of which every second is near an entry."""
    rng = make_rng(most, "planted list", str(num_bits))
    shape = (num_entries, num_bits // 64)
    entries = rng.integers(0, 2**64, size=shape, dtype=np.uint64)
    repeats = num_entries // 50
    entries[num_entries - repeats :] = entries[:repeats]
    queries = rng.integers(0, 2**64, size=(num_queries, shape[1]), dtype=np.uint64)
    for row in range(0, num_queries, 2):
        queries[row] = entries[row % num_entries]
        for bit in rng.choice(num_bits, size=row // 2 % (most + 1), replace=False).tolist():
            queries[row, bit // 64] ^= np.uint64(1 << bit % 64)
    if num_bits == 64:
        return [entries[:, 0], queries[:, 0]]
    return [entries, queries]


@pytest.mark.parametrize("num_entries", [300, 20_000])
@pytest.mark.parametrize(
    ("num_bits", "radius"),
    [
        *((64, radius) for radius in (*range(9), 16)),
        *((256, radius) for radius in (0, 14, 15, 31, 40)),
    ],
)
def test_matches_equal_comparing_with_all(num_entries: int, num_bits: int, radius: int) -> None:
    entries, queries = planted(num_entries, 200, num_bits, radius + 2)
    expected = compare_all(queries, entries, radius)
    assert listed(HashIndex(entries).within(queries, radius)) == expected
    assert len(expected) > 30


@pytest.mark.parametrize("radius", [0, 15, 31, 52])
def test_matches_equal_faiss(radius: int) -> None:
    faiss = pytest.importorskip("faiss")
    entries, queries = planted(20_000, 500, 256, 60)
    index = faiss.IndexBinaryFlat(256)
    index.add(entries.view(np.uint8))
    limits, distances, labels = index.range_search(queries.view(np.uint8), radius + 1)  # below
    query = np.repeat(np.arange(len(queries)), np.diff(limits.astype(int)))
    expected = sorted(
        zip(query.tolist(), labels.tolist(), distances.astype(int).tolist(), strict=True)
    )
    assert listed(HashIndex(entries).within(queries, radius)) == expected


@pytest.mark.parametrize("num_entries", [300, 20_000])
def test_the_nearest_of_several_forms_counts(num_entries: int) -> None:
    entries, queries = planted(num_entries, 400, 256, 40)
    found = HashIndex(entries).nearest(queries.reshape(50, 8, 4), 31)
    best: dict[int, tuple[int, int]] = {}
    for query, entry, bits in compare_all(queries, entries, 31):
        best[query // 8] = min(best.get(query // 8, (bits, entry)), (bits, entry))
    for picture in range(50):
        bits, entry = best.get(picture, (np.inf, -1))
        assert (found.distance[picture], found.entry[picture]) == (bits, entry)
    assert len(best) > 40


def test_the_nearest_of_a_plain_query_is_the_first_of_equal_entries() -> None:
    found = HashIndex(np.array([9, 5, 5, 1], np.uint64)).nearest(np.array([5, 2**40], np.uint64), 8)
    assert found.entry.tolist() == [1, 3]
    assert found.distance.tolist() == [0.0, 2.0]


def test_nothing_near_is_minus_one_and_infinite() -> None:
    found = HashIndex(np.array([0], np.uint64)).nearest(np.array([2**64 - 1], np.uint64), 8)
    assert found.entry.tolist() == [-1]
    assert np.isinf(found.distance).all()


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_an_empty_list_matches_nothing(shape: tuple[int, ...]) -> None:
    index = HashIndex(np.zeros(shape, np.uint64))
    queries = np.zeros((3, *shape[1:]), np.uint64)
    assert len(index.within(queries, 8)) == 0
    assert index.nearest(queries, 8).entry.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("num_entries", [1, 20_000])
def test_no_queries_are_no_trouble(num_entries: int) -> None:
    index = HashIndex(planted(num_entries, 0, 256, 0)[0])
    queries = np.zeros((0, 4), np.uint64)
    assert len(index.within(queries, 31)) == 0
    assert len(index.nearest(queries, 31).entry) == 0


def test_a_hash_of_all_other_bits_is_far() -> None:
    one = planted(1, 0, 256, 0)[0]
    found = HashIndex(np.concatenate([one, ~one])).within(np.concatenate([one, ~one]), 31)
    assert listed(found) == [(0, 0, 0), (1, 1, 0)]  # 256 bits are no byte's 0


def test_one_entry_matches_at_radius_zero_only_itself() -> None:
    index = HashIndex(np.array([7], np.uint64))
    assert listed(index.within(np.array([7, 6, 7], np.uint64), 0)) == [(0, 0, 0), (2, 0, 0)]


def test_an_all_equal_list_matches_with_every_entry() -> None:
    index = HashIndex(np.full((30_000, 4), 7, np.uint64))
    queries = np.array([[7, 7, 7, 6], [7, 7, 7, 2**64 - 1]], np.uint64)
    found = index.within(queries, 31)
    assert found.query.tolist() == [0] * 30_000
    assert found.entry.tolist() == list(range(30_000))
    assert set(found.distance.tolist()) == {1.0}


def test_entries_that_share_their_slots_are_all_found() -> None:
    bits = make_rng(0, "near-uniform list").integers(0, 256, size=(20_000, 6))
    entries = np.zeros((20_000, 4), np.uint64)
    for column in bits.T:
        entries[np.arange(20_000), column // 64] ^= np.uint64(1) << (column % 64).astype(np.uint64)
    queries = entries[:20]
    for radius in (6, 8):
        expected = compare_all(queries, entries, radius)
        assert listed(HashIndex(entries).within(queries, radius)) == expected


def crowd(num_hashes: int, most: int, name: str) -> np.ndarray:
    """Hashes that all lie within `most` bits of one; many of them are equal."""
    rng = make_rng(7, "crowd", name)
    places = rng.permuted(np.tile(np.arange(256), (num_hashes, 1)), axis=1)
    flips = places < rng.integers(0, most + 1, num_hashes)[:, None]
    center = make_rng(7, "center").integers(0, 2**64, 4, dtype=np.uint64)
    return center ^ np.packbits(flips, axis=1).view(np.uint64)


@pytest.mark.parametrize("most", [3, 16, 40])
def test_a_list_full_of_near_entries_is_searched_exactly_whoever_asks(most: int) -> None:
    strangers, others = planted(20_000, 60, 256, 31)
    entries = np.concatenate([strangers, crowd(3_000, most, "entries")])
    entries = make_rng(8, "order").permutation(entries)
    queries = np.concatenate([others, crowd(60, most, "queries"), crowd(5, 0, "equal")])
    queries = make_rng(8, "mixed").permutation(queries)
    expected = compare_all(queries, entries, 31)
    index = HashIndex(entries)
    assert listed(index.within(queries, 31)) == expected
    best: dict[int, tuple[int, int]] = {}
    for query, entry, bits in expected:
        best[query] = min(best.get(query, (bits, entry)), (bits, entry))
    found = index.nearest(queries, 31)
    nearest = zip(found.distance.tolist(), found.entry.tolist(), strict=True)
    assert list(nearest) == [best.get(row, (np.inf, -1)) for row in range(len(queries))]


def test_near_queries_of_a_list_of_near_entries_cost_no_more_than_comparing_with_all() -> None:
    entries, queries = crowd(10_000, 12, "entries"), crowd(2_000, 12, "queries")
    index = HashIndex(entries)
    start = time.process_time()
    found = index.nearest(queries, 31)
    assert time.process_time() - start < 2  # measured: 0.04 s; by tables alone 9.6 s
    assert (found.distance <= 12).all()


@pytest.mark.parametrize("num_entries", [0, 3, 20_000])
def test_a_radius_the_hash_does_not_allow_is_refused(num_entries: int) -> None:
    index = HashIndex(planted(num_entries, 0, 256, 0)[0])
    queries = np.zeros((1, 4), np.uint64)
    with pytest.raises(
        ConfigError, match=r"radius: must be 0\.\.64 for hashes of 256 bits, got 65"
    ):
        index.within(queries, 65)
    with pytest.raises(ConfigError, match="got -1"):
        index.nearest(queries, -1)


def test_queries_of_another_length_are_refused() -> None:
    index = HashIndex(np.zeros((3, 4), np.uint64))
    with pytest.raises(DataError, match=r"queries: must be hashes of 256 bits .* got 64"):
        index.within(np.zeros(3, np.uint64), 4)
    with pytest.raises(DataError, match="at least one form, got none"):
        index.nearest(np.zeros((3, 0, 4), np.uint64), 4)
