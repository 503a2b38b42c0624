"""Find the samples whose hashes stand on lists.

    digests of the file : equal
    PDQ                 : up to the list's radius, the nearest of the picture's measured forms

PDQ is never asked of a picture that has too little in it for PDQ to say anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.stages.matching.exact_index import find_listed
from curate.stages.matching.hash_index import HashIndex
from curate.stages.matching.hash_lists import HashList
from curate.stages.matching.sample_hashes import SampleHashes

_WORD_BYTES = 8


class ListHit(NamedTuple):
    """Say that a sample stands on a list.

    Args:
        row: of the sample.
        place: of the list among those given.
        kind: of the hash.
        distance: bits that differ; 0 for digests.
    """

    row: int
    place: int
    kind: str
    distance: int


class ListMatcher:
    """Match samples with some lists; indices are made once."""

    def __init__(self, lists: Sequence[HashList]) -> None:
        self._lists = lists
        self._near = {
            place: HashIndex(pack_words(item.digests["pdq"]))
            for place, item in enumerate(lists)
            if "pdq" in item.digests
        }

    def match(self, samples: SampleHashes) -> list[ListHit]:
        """Give the hits, sorted; of a sample, list and kind only the nearest."""
        hits: list[ListHit] = []
        for place, item in enumerate(self._lists):
            for kind, listed in item.digests.items():
                found = (
                    self._match_near(samples, place)
                    if kind == "pdq"
                    else _match_equal(samples, kind, listed)
                )
                hits += [ListHit(row, place, kind, distance) for row, distance in found]
        return sorted(hits)

    def _match_near(self, samples: SampleHashes, place: int) -> Iterator[tuple[int, int]]:
        radius = self._lists[place].config.pdq_radius
        rows = np.flatnonzero(samples.is_sharp)
        if len(rows):
            found = self._near[place].nearest(pack_words(samples.forms[rows]), radius)
            for number in np.flatnonzero(found.entry >= 0):
                yield int(rows[number]), int(found.distance[number])


def pack_words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Turn hashes of 32 bytes into words of 64 bits: [..., 32] -> [..., 4]."""
    return np.ascontiguousarray(hashes).view(f">u{_WORD_BYTES}").astype(np.uint64)


def _match_equal(
    samples: SampleHashes, kind: str, listed: NDArray[np.uint8]
) -> Iterator[tuple[int, int]]:
    rows = np.flatnonzero(samples.known[kind])
    for row in rows[find_listed(listed, samples.digests[kind][rows])]:
        yield int(row), 0
