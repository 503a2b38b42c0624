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

    def look_up(self, values: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give all (place in `values`, row), by place, then by row."""
        low = self.offsets[values]
        counts = self.offsets[values + 1] - low
        place = np.repeat(np.arange(len(values)), counts)
        before = np.cumsum(counts) - counts
        return place, self.rows[np.arange(len(place)) + np.repeat(low - before, counts)]

    def look_up_in_blocks(
        self, values: NDArray[np.integer]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield what `look_up` gives, at most a million or the rows of one value at a time."""
        wide = values.astype(np.int64)
        total = np.cumsum(self.offsets[wide + 1] - self.offsets[wide])
        if not len(total):
            return
        stops = np.searchsorted(total, np.arange(BLOCK, total[-1], BLOCK), side="right")
        start = 0
        for stop in np.unique([*stops.tolist(), len(wide)]).tolist():
            place, rows = self.look_up(wide[start:stop])
            yield place + start, rows
            start = stop
