"""Look hashes up in a list: every entry within a Hamming radius of a query, exactly.

    entries, queries -> equal ones collapsed
        short list, or many entries in the query's slots -> compare with all
        else                                             -> a table of the entries for each slot

A query within `radius` of an entry has a slot of 16 bits with few differing ones (`slot_radii`), so
it is enough to look into the tables at the query's own slots and at their near values. Where a list
is full of near hashes (a clip frame by frame, variants of one meme), their slots hold most of them,
and all sixteen would bring them up: how many is counted first, query by query, and no query costs
more than comparing it with all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import DataError
from curate.stages.duplicates.hash_words import WORD_BITS, Words, check_radius, split_words
from curate.stages.matching.distinct import Distinct
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

    def take(self, chosen: NDArray[np.integer | np.bool_]) -> _Near:
        """Give some of the pairs, by place or by mask."""
        return _Near(query=self.query[chosen], entry=self.entry[chosen], bits=self.bits[chosen])


_Choose = Callable[[NDArray[np.uint16], int], _Near]
"""Chooses entries for queries from all their distances [Q, D] and the radius."""


class HashIndex:
    """Find the entries of a list near given hashes.

    Args:
        hashes: the list, uint64 [M] (64 bits) or [M, W] (W words of 64 bits); may be empty and
            may repeat itself. Memory: 16 W bytes an entry, and 16 W more in the tables.

    Raises:
        DataError: another type or shape.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._list = Distinct.of(split_words(hashes))
        self._slots: list[Table] | None = None

    @property
    def num_bits(self) -> int:
        """Give the bits of a hash."""
        return len(self._list.words) * WORD_BITS

    def within(self, queries: NDArray[np.uint64], radius: int) -> Matches:
        """List all entries within the radius of each query.

        Args:
            queries: uint64 [N] or [N, W], as the list.
            radius: bits, 0..a quarter of the hash.

        Raises:
            ConfigError: the radius is out of range.
            DataError: queries of another type or length than the list's.
        """
        asked = Distinct.of(self._split(queries))
        parts = list(self._near(asked.words, radius, _all_near))
        near = _Near(
            query=np.concatenate([np.empty(0, np.int64), *(part.query for part in parts)]),
            entry=np.concatenate([np.empty(0, np.int64), *(part.entry for part in parts)]),
            bits=np.concatenate([np.empty(0, np.uint16), *(part.bits for part in parts)]),
        )
        at, entry = self._list.expand(near.entry)
        near = near.take(at)
        at, query = asked.expand(near.query)
        entry, bits = entry[at], near.bits[at]
        order = np.argsort(query * len(self._list.places) + entry, kind="stable")
        return Matches(
            query=query[order], entry=entry[order], distance=bits[order].astype(np.float32)
        )

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
        if queries.ndim == (2 if len(self._list.words) == 1 else 3):
            num_forms = queries.shape[1]
            queries = queries.reshape(-1, *queries.shape[2:])
        if not num_forms:
            raise DataError("queries: must have at least one form, got none; give the hash itself")
        asked = Distinct.of(self._split(queries))
        nothing = np.iinfo(np.int64).max
        best = np.full(len(asked), nothing)  # distance and row as one number
        for part in self._near(asked.words, radius, _first_nearest):
            found = (part.bits.astype(np.int64) << _ROW_BITS) | self._list.rows[part.entry]
            np.minimum.at(best, part.query, found)
        best = best[asked.places].reshape(-1, num_forms).min(axis=1)
        missing = best == nothing
        return Nearest(
            entry=np.where(missing, -1, best & ((1 << _ROW_BITS) - 1)),
            distance=np.where(missing, np.inf, best >> _ROW_BITS).astype(np.float32),
        )

    def _split(self, queries: NDArray[np.uint64]) -> Words:
        words = split_words(queries)
        if len(words) != len(self._list.words):
            raise DataError(
                f"queries: must be hashes of {self.num_bits} bits as in the list, "
                f"got {len(words) * WORD_BITS}; hash both in one way"
            )
        return words

    def _near(self, queries: Words, radius: int, choose: _Choose) -> Iterator[_Near]:
        """Yield near (query, distinct entry), each once; of a query all that `choose` wants."""
        check_radius(radius, self.num_bits)
        num_probes = sum(len(near_masks(slot)) for slot in slot_radii(self.num_bits, radius))
        if self._costs_more(num_probes * (1 + len(self._list) / 2**SLOT_BITS)):
            return self._compare_all(queries, radius, choose)
        return self._look_up(queries, radius, num_probes, choose)

    def _costs_more(self, looks: Any) -> Any:
        """Tell whether so many looks cost more than comparing with all; also of an array."""
        return looks * _LOOKUP_COST > len(self._list)

    def _compare_all(self, queries: Words, radius: int, choose: _Choose) -> Iterator[_Near]:
        """Compare two words of all, and the others where a query is near an entry so far."""
        entries, num_words = self._list.words, len(queries)
        step = max(1, _FLAT_BLOCK // max(1, len(self._list)))
        for start in range(0, len(queries[0]), step):
            some = tuple(query[start : start + step] for query in queries)
            bits = np.zeros((len(some[0]), len(self._list)), np.uint8)  # of two words: 128 at most
            for word in range(min(2, num_words)):
                bits += np.bitwise_count(some[word][:, None] ^ entries[word])
            rows = np.flatnonzero(bits.min(axis=1, initial=radius + 1) <= radius)
            whole = bits[rows].astype(np.uint16)  # [R, D]
            for word in range(2, num_words):
                whole += np.bitwise_count(some[word][rows][:, None] ^ entries[word])
            if len(rows):
                near = choose(whole, radius)
                yield replace(near, query=rows[near.query] + start)

    def _look_up(
        self, queries: Words, radius: int, num_probes: int, choose: _Choose
    ) -> Iterator[_Near]:
        """Look into the tables, but for queries that they bring too many entries up for."""
        slots, radii = self._tables(), slot_radii(self.num_bits, radius)
        step = max(1, BLOCK // num_probes)
        for start in range(0, len(queries[0]), step):
            some = tuple(query[start : start + step] for query in queries)
            spans = [
                slots[slot].find(slot_values(some, slot)[:, None] ^ near_masks(most))
                for slot, most in enumerate(radii)
            ]
            looks = num_probes + np.sum([span.counts.sum(axis=1) for span in spans], axis=0)
            is_crowded = self._costs_more(looks)
            crowded, rest = np.flatnonzero(is_crowded), np.flatnonzero(~is_crowded)
            for near in self._compare_all(tuple(q[crowded] for q in some), radius, choose):
                yield replace(near, query=crowded[near.query] + start)
            for slot, span in enumerate(spans):
                num_masks = span.counts.shape[1]
                for at, entry in slots[slot].rows_in_blocks(span.take(rest)):
                    near = self._verify(some, rest[at // num_masks], entry, radius, slot)
                    yield replace(near, query=near.query + start)

    def _tables(self) -> list[Table]:
        """Give a table for each slot; they are made when first needed."""
        if self._slots is None:
            self._slots = [
                Table.of(slot_values(self._list.words, slot), 1 << SLOT_BITS)
                for slot in range(self.num_bits // SLOT_BITS)
            ]
        return self._slots

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
        bits = np.zeros(len(query), np.uint16)
        for word in order:
            bits = bits + np.bitwise_count(queries[word][query] ^ self._list.words[word][entry])
            near = np.flatnonzero(bits <= radius)
            query, entry, bits = query[near], entry[near], bits[near]
        ones = tuple(word[query] for word in queries)
        others = tuple(word[entry] for word in self._list.words)
        fresh = np.ones(len(query), np.bool_)
        for earlier, most in enumerate(slot_radii(self.num_bits, radius)[:slot]):
            differing = slot_values(ones, earlier) ^ slot_values(others, earlier)
            fresh &= np.bitwise_count(differing) > most
        return _Near(query=query, entry=entry, bits=bits).take(fresh)


def _all_near(bits: NDArray[np.uint16], radius: int) -> _Near:
    """Choose all entries within the radius: bits [Q, D]."""
    query, entry = np.nonzero(bits <= radius)
    return _Near(query=query, entry=entry, bits=bits[query, entry])


def _first_nearest(bits: NDArray[np.uint16], radius: int) -> _Near:
    """Choose each query's nearest entry within the radius, the first of several: bits [Q, D]."""
    query, entry = np.arange(len(bits)), bits.argmin(axis=1)
    near = _Near(query=query, entry=entry, bits=bits[query, entry])
    return near.take(near.bits <= radius)
