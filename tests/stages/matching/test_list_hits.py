"""Hits are those of ThreatExchange's own index and of counting bits, whatever the list's size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.core.seed import make_rng
from curate.stages.matching.blocklist_config import ListConfig
from curate.stages.matching.hash_lists import HashList
from curate.stages.matching.list_hits import ListHit, ListMatcher
from curate.stages.matching.sample_hashes import SampleHashes

Hashes = NDArray[np.uint8]


def a_list(hashes: Hashes, radius: int = 31) -> HashList:
    config = ListConfig(path="list.txt", purpose="harm", pdq_radius=radius)
    return HashList(
        name="known",
        config=config,
        digests={"pdq": np.unique(hashes, axis=0)},
        unmatchable={},
        num_withdrawn=0,
        sha256="",
    )


def samples(forms: Hashes) -> SampleHashes:
    good = np.ones(len(forms), bool)
    return SampleHashes(digests={}, known={}, forms=forms, is_hashed=good, is_sharp=good)


def near(hashes: Hashes, distances: NDArray[np.int64], *names: str) -> Hashes:
    """Flip as many bits of each hash as asked."""
    bits = np.unpackbits(hashes, axis=1)
    rng = make_rng(1, "flip", *names)
    for row, distance in enumerate(distances):
        bits[row, rng.choice(256, int(distance), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


def by_counting(queries: Hashes, listed: Hashes, radius: int) -> list[ListHit]:
    hits: list[ListHit] = []
    for row, query in enumerate(queries):
        distances = np.bitwise_count(listed ^ query).sum(axis=1)
        if distances.min() <= radius:
            hits.append(ListHit(row, 0, "pdq", int(distances.min())))
    return hits


@pytest.mark.parametrize("num_listed", [1, 300, 20_000])
@pytest.mark.parametrize("radius", [0, 15, 31, 40])
def test_the_nearest_entry_within_the_radius_is_the_hit(num_listed: int, radius: int) -> None:
    rng = make_rng(2, "hits", num_listed)
    listed = rng.integers(0, 256, (num_listed, 32), np.uint8)
    chosen = listed[rng.integers(0, num_listed, 60)]
    planted = near(chosen, np.arange(60), str(num_listed))
    queries = np.concatenate([planted, rng.integers(0, 256, (40, 32), np.uint8)])
    hits = ListMatcher([a_list(listed, radius)]).match(samples(queries[:, None]))
    assert hits == by_counting(queries, listed, radius)
    assert len(hits) == radius + 1


def test_hits_are_those_of_threatexchanges_index() -> None:
    peer = pytest.importorskip("threatexchange.signal_type.pdq.pdq_index")
    rng = make_rng(3, "threatexchange")
    listed = rng.integers(0, 256, (20_000, 32), np.uint8)
    planted = near(listed[:500], rng.integers(0, 64, 500), "planted")
    queries = np.concatenate([planted, rng.integers(0, 256, (500, 32), np.uint8)])
    index = peer.PDQIndex.build(
        [(row.tobytes().hex(), number) for number, row in enumerate(listed)]
    )
    theirs = {
        row: min(match.similarity_info.distance for match in found)
        for row, query in enumerate(queries)
        if (found := index.query(query.tobytes().hex()))
    }
    own = ListMatcher([a_list(listed)]).match(samples(queries[:, None]))
    assert {hit.row: hit.distance for hit in own} == theirs
    assert 200 < len(own) < 300


def test_a_turned_form_is_a_hit_of_its_sample() -> None:
    rng = make_rng(4, "forms")
    forms = rng.integers(0, 256, (50, 8, 32), np.uint8)
    listed = near(forms[np.arange(0, 50, 5), np.arange(10) % 8], np.arange(10), "forms")
    hits = ListMatcher([a_list(listed)]).match(samples(forms))
    assert [(hit.row, hit.distance) for hit in hits] == [(5 * n, n) for n in range(10)]


def test_what_was_not_measured_or_says_too_little_is_never_looked_up() -> None:
    """An unknown digest is held as zeros, which a list may have."""
    zeros = np.zeros((1, 32), np.uint8)
    listed = replace(a_list(zeros), digests={"sha256": zeros, "pdq": zeros})
    known = np.array([True, False])
    both = SampleHashes(
        digests={"sha256": np.zeros((2, 32), np.uint8)},
        known={"sha256": known},
        forms=np.zeros((2, 1, 32), np.uint8),
        is_hashed=np.ones(2, bool),
        is_sharp=known,
    )
    assert ListMatcher([listed]).match(both) == [
        ListHit(0, 0, "pdq", 0), ListHit(0, 0, "sha256", 0),
    ]  # fmt: skip


def test_hits_come_by_sample_then_by_list() -> None:
    zeros = np.zeros((3, 1, 32), np.uint8)
    hits = ListMatcher([a_list(zeros[0]), a_list(zeros[0])]).match(samples(zeros))
    assert [(hit.row, hit.place) for hit in hits] == [(n // 2, n % 2) for n in range(6)]


def test_a_list_that_repeats_itself_gives_one_hit_a_sample() -> None:
    listed = near(np.zeros((3000, 32), np.uint8), np.full(3000, 3), "repeats")
    queries = np.zeros((200, 1, 32), np.uint8)
    hits = ListMatcher([a_list(listed)]).match(samples(queries))
    assert len(hits) == 200
    assert {hit.distance for hit in hits} == {3}
