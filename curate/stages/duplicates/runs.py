"""Sort hashes into runs of equal values and compare each with the others of its run.

Memory: about 25 bytes a hash and a copy of the hashes; comparing takes blocks of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.hash_words import WORD_BITS, Words

_BLOCK = 1 << 17  # hashes compared at once; chosen by us: temporaries stay in the caches
_DRAWS = 8
_CROWD = 8
"""Chosen by us: 500,000 hashes with so many near ones make 2 million pairs, 40 MB; the estimate is
right to 1 / sqrt(8 * 8) = 12 percent there."""
_MIX = np.uint64(0x9E3779B97F4A7C15)  # Source: Steele et al. 2014, SplitMix's odd constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Order rows so that equal values stand together.

    Args:
        rows: [N], int64.
        same: [N], bool: this row and the next are of one run; the last is False.
    """

    rows: NDArray[np.int64]
    same: NDArray[np.bool_]

    def take(self, places: NDArray[np.bool_]) -> Runs:
        """Keep some whole runs."""
        return Runs(rows=self.rows[places], same=self.same[places])


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """Name rows that were compared and found near: one, other int64 [P], bits uint16 [P]."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    bits: NDArray[np.uint16]

    def take(self, places: NDArray[np.bool_]) -> Near:
        """Keep some pairs."""
        return Near(one=self.one[places], other=self.other[places], bits=self.bits[places])

    def renumbered(self, rows: NDArray[np.int64]) -> Near:
        """Name row `rows[i]` where row i was named."""
        return Near(one=rows[self.one], other=rows[self.other], bits=self.bits)


def join_near(parts: Sequence[Near]) -> Near:
    """Join lists of near rows."""
    rows = np.empty(0, np.int64)
    return Near(
        one=np.concatenate([rows, *(part.one for part in parts)]),
        other=np.concatenate([rows, *(part.other for part in parts)]),
        bits=np.concatenate([np.empty(0, np.uint16), *(part.bits for part in parts)]),
    )


def sort_by_value(values: NDArray[np.uint64], value_bits: int) -> Runs:
    """Sort rows by value, equal values by row: uint64 [N], each below 2^value_bits."""
    row_bits = max(1, (len(values) - 1).bit_length())
    if value_bits + row_bits <= WORD_BITS:  # sort value and row as one number: 4 times faster
        packed = values << np.uint64(row_bits)
        packed |= np.arange(len(values), dtype=np.uint64)
        packed.sort()
        rows = (packed & np.uint64((1 << row_bits) - 1)).astype(np.int64)
        packed >>= np.uint64(row_bits)
        return Runs(rows=rows, same=_same(packed))
    rows = np.argsort(values, kind="stable")
    return Runs(rows=rows, same=_same(values[rows]))


def run_lengths(runs: Runs) -> NDArray[np.int64]:
    """Count the rows of every run."""
    return np.diff(np.flatnonzero(~runs.same), prepend=-1)


def sort_within_runs(words: Words, values: NDArray[np.uint64], runs: Runs) -> Runs:
    """Bring the rows of each run into the order of their hashes, whatever order they came in."""
    order = [word[runs.rows] for word in reversed(words)]
    return replace(runs, rows=runs.rows[np.lexsort([*order, values[runs.rows]])])


def telling_bits(words: Words, runs: Runs) -> list[int]:
    """List the bits (word * 64 + bit) in which at least 1 of 100 rows differs from most of its run.

    Source: chosen by us: a bit that is nearly constant splits nothing.
    """
    lengths = run_lengths(runs)
    starts = np.cumsum(lengths) - lengths
    bits: list[int] = []
    for number, word in enumerate(words):
        ordered = word[runs.rows]
        for bit in range(WORD_BITS):
            ones = ((ordered >> np.uint64(bit)) & np.uint64(1)).astype(np.int64)
            ones = np.add.reduceat(ones, starts)
            if np.minimum(ones, lengths - ones).sum() * 100 >= len(ordered):
                bits.append(number * WORD_BITS + bit)
    return bits


def are_crowded(words: Words, runs: Runs, radius: int) -> NDArray[np.bool_]:
    """Estimate in which runs a hash has more than 8 others within the radius on average: bool [R].

    Each hash meets a few others of its run, drawn by its place in the run; as many meetings as
    hashes for each draw, the number of hits estimates the near ones of a hash, whatever the length.
    """
    lengths = run_lengths(runs)
    ends = np.cumsum(lengths)
    length, start = np.repeat(lengths, lengths), np.repeat(ends - lengths, lengths)
    place = np.arange(len(runs.rows)) - start
    hits = np.zeros(len(lengths), np.int64)
    for draw in range(_DRAWS):
        mixed = (place.astype(np.uint64) * np.uint64(_DRAWS) + np.uint64(draw)) * _MIX
        other = start + ((mixed >> np.uint64(32)).astype(np.int64) % length)
        near = np.sum(
            [np.bitwise_count(word[runs.rows] ^ word[runs.rows[other]]) for word in words],
            axis=0,
            dtype=np.uint16,
        )
        hits += np.add.reduceat(
            (near <= radius) & (other != start + place), ends - lengths, dtype=np.int64
        )
    return hits > _CROWD * _DRAWS


def find_near(
    words: Words, runs: Runs, radius: int, max_apart: int | None = None
) -> Iterator[Near]:
    """Compare every hash with those after it in its run and yield who is within the radius.

    Args:
        words: each [N].
        runs: of their rows.
        radius: bits.
        max_apart: compare with so many next ones only.
    """
    ordered = tuple(word[runs.rows] for word in words)  # reading in order is 1.5-2 times faster
    for start in range(0, len(runs.rows), _BLOCK):
        first = np.flatnonzero(runs.same[start : start + _BLOCK]) + start
        apart = 1
        while len(first):  # with the next neighbour, the one after, and so on
            near, bits = _near(ordered, first, apart, radius)
            if len(near):
                yield Near(one=runs.rows[near], other=runs.rows[near + apart], bits=bits)
            if apart == max_apart:
                break
            first = first[runs.same[first + apart]]
            apart += 1


def _near(
    ordered: Words, first: NDArray[np.int64], apart: int, radius: int
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Compare places with those so far on, word by word, and drop what is too far apart already."""
    bits = np.zeros(len(first), np.uint16)
    for word in ordered:
        bits = bits + np.bitwise_count(word[first] ^ word[first + apart])
        near = np.flatnonzero(bits <= radius)
        first, bits = first[near], bits[near]
    return first, bits


def _same(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.append(ordered[1:] == ordered[:-1], np.zeros(min(1, len(ordered)), np.bool_))
