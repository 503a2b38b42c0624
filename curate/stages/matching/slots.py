"""Cut hashes into slots of 16 bits and keep a table of a list's entries for each slot value.

Two hashes within a radius have a slot in which few bits differ: were more than `slot_radii` bits
different in every slot, more than the radius would be in all.
Source: Norouzi, Punjani, Fleet 2012, "Fast search in Hamming space with multi-index hashing";
thresholds that differ between slots: Qin et al. 2018, "GPH: similarity search in Hamming space".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.hash_words import WORD_BITS, Words

SLOT_BITS = 16
"""Source: ThreatExchange's PDQ index, 16 slots of 16 bits; 17 probes a slot at radius 31."""

BLOCK = 1 << 20  # entries looked at at once; chosen by us: about 30 MB


def slot_values(words: Words, slot: int) -> NDArray[np.uint16]:
    """Give one slot of every hash: words, each [N] -> uint16 [N]."""
    word, shift = divmod(slot * SLOT_BITS, WORD_BITS)
    return (words[word] >> np.uint64(shift)).astype(np.uint16)


def slot_radii(num_bits: int, radius: int) -> list[int]:
    """Give how many bits may differ in each slot; -1: the slot need not be looked at."""
    num_slots = num_bits // SLOT_BITS
    share, more = divmod(radius + 1 - num_slots, num_slots)
    return [share + (slot < more) for slot in range(num_slots)]


@cache
def near_masks(most: int) -> NDArray[np.uint16]:
    """List the slot values with at most so many ones, 0 first; none for -1."""
    masks = [
        sum(1 << bit for bit in bits)
        for ones in range(most + 1)
        for bits in combinations(range(SLOT_BITS), ones)
    ]
    return np.array(masks, np.uint16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Say where in a table the rows of some values stand: int64, of any shape, both of one."""

    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Spans:
        """Give those of some rows."""
        return Spans(starts=self.starts[rows], counts=self.counts[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """List the rows of every value.

    Args:
        rows: [M], int64, sorted by value, then by row.
        offsets: [V + 1], int64: value v has rows[offsets[v] : offsets[v + 1]].
    """

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.integer], num_values: int) -> Table:
        """List the rows of values in 0..num_values - 1: [M]."""
        counts = np.bincount(values, minlength=num_values)
        return cls(rows=np.argsort(values, kind="stable"), offsets=np.append(0, np.cumsum(counts)))

    def find(self, values: NDArray[np.integer]) -> Spans:
        """Find where the rows of each value stand."""
        wide = values.astype(np.int64)
        starts = self.offsets[wide]
        return Spans(starts=starts, counts=self.offsets[wide + 1] - starts)

    def look_up(self, values: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give all (place in `values`, row), by place, then by row: values [P]."""
        return self._rows_in(self.find(values))

    def rows_in_blocks(self, spans: Spans) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield all (place, row), at most a million or the rows of one place at a time.

        Args:
            spans: of `find`; places count through them row by row.
        """
        flat = Spans(starts=spans.starts.ravel(), counts=spans.counts.ravel())
        filled = np.flatnonzero(flat.counts)
        if not len(filled):
            return
        flat = flat.take(filled)
        total = np.cumsum(flat.counts)
        stops = np.searchsorted(total, np.arange(BLOCK, total[-1], BLOCK), side="right")
        start = 0
        for stop in np.unique([*stops.tolist(), len(filled)]).tolist():
            some = np.arange(start, stop)
            place, rows = self._rows_in(flat.take(some))
            yield filled[start + place], rows
            start = stop

    def _rows_in(self, spans: Spans) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        place = np.repeat(np.arange(len(spans.counts)), spans.counts)
        before = np.cumsum(spans.counts) - spans.counts
        within = np.arange(len(place)) + np.repeat(spans.starts - before, spans.counts)
        return place, self.rows[within]
