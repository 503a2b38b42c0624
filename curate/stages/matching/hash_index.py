"""Look hashes up in a list: every entry within a Hamming radius of a query, exactly.

    entries -> equal ones collapsed -> short list: compare with all
                                    -> long list: a table of the entries for each slot of 16 bits

A query within `radius` of an entry has a slot with few differing bits (`slot_radii`), so it is
enough to look into the tables at the query's own slots and at their near values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import DataError
from curate.stages.duplicates.hamming import collapse_equal
from curate.stages.duplicates.hash_words import WORD_BITS, Words, check_radius, split_words
from curate.stages.matching.slots import (
    BLOCK,
    SLOT_BITS,
    Table,
    near_masks,
    slot_radii,
    slot_values,
)

_FLAT_BLOCK = 1 << 16  # comparisons with all at once; chosen by us: they stay in the caches
_LOOKUP_COST = 16
"""Time of one look into a table, or at one entry found there, in comparisons with all; measured:
at radius 31 tables are faster from 4,500 entries on (benchmarks/hamming.py)."""
_ROW_BITS = 48  # of a number that holds a distance above a row; more rows than memory holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Name queries and the entries near them, sorted by (query, entry).

    Args:
        query: [P], int64, row of the query.
        entry: [P], int64, row of the list.
        distance: [P], float32, bits.
    """

    query: NDArray[np.int64]
    entry: NDArray[np.int64]
    distance: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """Give the nearest entry of each query.

    Args:
        entry: [N], int64, row of the list, the first of several; -1 if none is within the radius.
        distance: [N], float32, bits; infinite if none is within the radius.
    """

    entry: NDArray[np.int64]
    distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Near:
    """Name queries and distinct entries near them: int64 [P], int64 [P], bits uint16 [P]."""

    query: NDArray[np.int64]
    entry: NDArray[np.int64]
    bits: NDArray[np.uint16]


class HashIndex:
    """Find the entries of a list near given hashes.

    Args:
        hashes: the list, uint64 [M] (64 bits) or [M, W] (W words of 64 bits); may be empty and
            may repeat itself. Memory: 16 W bytes an entry, and 16 W more in the tables.

    Raises:
        DataError: another type or shape.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        words = split_words(hashes)
        first, self._rows = collapse_equal(words)
        self._entries: Words = tuple(np.ascontiguousarray(word[self._rows]) for word in words)
        number = np.empty(len(first), np.int64)
        number[self._rows] = np.arange(len(self._rows))
        self._members = Table.of(number[first], len(self._rows))
        self._slots: list[Table] | None = None

    @property
    def num_bits(self) -> int:
        """Give the bits of a hash."""
        return len(self._entries) * WORD_BITS

    def within(self, queries: NDArray[np.uint64], radius: int) -> Matches:
        """List all entries within the radius of each query.

        Args:
            queries: uint64 [N] or [N, W], as the list.
            radius: bits, 0..a quarter of the hash.

        Raises:
            ConfigError: the radius is out of range.
            DataError: queries of another type or length than the list's.
        """
        parts = list(self._near(self._split(queries), radius))
        query = np.concatenate([np.empty(0, np.int64), *(part.query for part in parts)])
        entry = np.concatenate([np.empty(0, np.int64), *(part.entry for part in parts)])
        bits = np.concatenate([np.empty(0, np.uint16), *(part.bits for part in parts)])
        at, rows = self._members.look_up(entry)
        order = np.lexsort((rows, query[at]))
        at = at[order]
        return Matches(query=query[at], entry=rows[order], distance=bits[at].astype(np.float32))

    def nearest(self, queries: NDArray[np.uint64], radius: int) -> Nearest:
        """Give the nearest entry within the radius, of the query or of any of its forms.

        Args:
            queries: as for `within`, or with one more axis of forms, the smallest distance of
                which counts: uint64 [N, 8, 4] for a PDQ hash and its turned and flipped ones.
            radius: bits.

        Raises:
            ConfigError: the radius is out of range.
            DataError: queries of another type or length than the list's.
        """
        num_forms = 1
        if queries.ndim == (2 if len(self._entries) == 1 else 3):
            num_forms = queries.shape[1]
            queries = queries.reshape(-1, *queries.shape[2:])
        if not num_forms:
            raise DataError("queries: must have at least one form, got none; give the hash itself")
        nothing = np.iinfo(np.int64).max
        best = np.full(len(queries) // num_forms, nothing)  # distance and row as one number
        for part in self._near(self._split(queries), radius):
            found = (part.bits.astype(np.int64) << _ROW_BITS) | self._rows[part.entry]
            np.minimum.at(best, part.query // num_forms, found)
        missing = best == nothing
        return Nearest(
            entry=np.where(missing, -1, best & ((1 << _ROW_BITS) - 1)),
            distance=np.where(missing, np.inf, best >> _ROW_BITS).astype(np.float32),
        )

    def _split(self, queries: NDArray[np.uint64]) -> Words:
        words = split_words(queries)
        if len(words) != len(self._entries):
            raise DataError(
                f"queries: must be hashes of {self.num_bits} bits as in the list, "
                f"got {len(words) * WORD_BITS}; hash both in one way"
            )
        return words

    def _near(self, queries: Words, radius: int) -> Iterator[_Near]:
        """Yield each near (query, distinct entry) once."""
        check_radius(radius, self.num_bits)
        num_entries = len(self._entries[0])
        num_probes = sum(len(near_masks(slot)) for slot in slot_radii(self.num_bits, radius))
        looked_at = num_probes * (1 + num_entries / 2**SLOT_BITS)
        if looked_at * _LOOKUP_COST > num_entries:
            return self._compare_all(queries, radius)
        return self._look_up(queries, radius, num_probes)

    def _compare_all(self, queries: Words, radius: int) -> Iterator[_Near]:
        """Compare two words of all and the others of those that are near so far."""
        num_entries = len(self._entries[0])
        step = max(1, _FLAT_BLOCK // max(1, num_entries))
        for start in range(0, len(queries[0]), step):
            some = tuple(query[start : start + step] for query in queries)
            bits = np.zeros((len(some[0]), num_entries), np.uint8)  # two words differ in 128 bits
            for word in range(min(2, len(queries))):
                bits += np.bitwise_count(some[word][:, None] ^ self._entries[word])
            places = np.flatnonzero(bits <= radius)
            query, entry = np.divmod(places, num_entries)
            near = self._narrow(some, query, entry, radius, range(len(queries)))
            yield replace(near, query=near.query + start)

    def _look_up(self, queries: Words, radius: int, num_probes: int) -> Iterator[_Near]:
        if self._slots is None:
            slots = range(self.num_bits // SLOT_BITS)
            self._slots = [
                Table.of(slot_values(self._entries, slot), 1 << SLOT_BITS) for slot in slots
            ]
        step = max(1, BLOCK // num_probes)
        for start in range(0, len(queries[0]), step):
            some = tuple(query[start : start + step] for query in queries)
            for slot, most in enumerate(slot_radii(self.num_bits, radius)):
                masks = near_masks(most)
                values = (slot_values(some, slot)[:, None] ^ masks).ravel()
                for at, entry in self._slots[slot].look_up_in_blocks(values):
                    near = self._verify(some, at // len(masks), entry, radius, slot)
                    yield replace(near, query=near.query + start)

    def _verify(
        self,
        queries: Words,
        query: NDArray[np.int64],
        entry: NDArray[np.int64],
        radius: int,
        slot: int,
    ) -> _Near:
        """Keep the pairs within the radius that no earlier slot has brought up."""
        own = slot * SLOT_BITS // WORD_BITS  # agrees in part, so it drops least
        order = sorted(range(len(queries)), key=lambda word: word == own)
        near = self._narrow(queries, query, entry, radius, order)
        fresh = np.ones(len(near.query), np.bool_)
        for earlier, most in enumerate(slot_radii(self.num_bits, radius)[:slot]):
            one, other = slot_values(queries, earlier), slot_values(self._entries, earlier)
            fresh &= np.bitwise_count(one[near.query] ^ other[near.entry]) > most
        return _Near(query=near.query[fresh], entry=near.entry[fresh], bits=near.bits[fresh])

    def _narrow(
        self,
        queries: Words,
        query: NDArray[np.int64],
        entry: NDArray[np.int64],
        radius: int,
        order: Iterable[int],
    ) -> _Near:
        """Compare word by word and drop what is too far apart already."""
        bits = np.zeros(len(query), np.uint16)
        for word in order:
            bits = bits + np.bitwise_count(queries[word][query] ^ self._entries[word][entry])
            near = np.flatnonzero(bits <= radius)
            query, entry, bits = query[near], entry[near], bits[near]
        return _Near(query=query, entry=entry, bits=bits)
