"""Gather the samples of one pHash by what they look like: different thumbnails, or leaders of them.

A pHash sees luminance only, so samples of one pHash may be strangers, and a card or a flat colour
may come a million times. Equal thumbnails are one look. Up to `max_looks` of them are compared
with each other and with those of near pHashes; of more, leaders are chosen that every other look is
near to, and only leaders are compared further. What a group becomes depends on the set of its
thumbnails alone, not on the order of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.stages.duplicates.edge_table import HEAVY_SCHEMA, make_edges
from curate.stages.duplicates.edges import Kind
from curate.stages.duplicates.thumbnails import measure_change

THUMBNAIL_BYTES = 192
RECORD = np.dtype([("row", "<i8"), ("thumbnail", "u1", THUMBNAIL_BYTES)])
"""A look on disk: the sample that stands for it, and its thumbnail."""

_AT_ONCE = 16_384  # pairs of thumbnails held at once; chosen by us: 80 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Hold what the samples of many pHashes look like.

    Args:
        hashes: [H], uint64, different pHashes.
        starts: [H], position of a pHash's first look in `records`.
        counts: [H], its looks.
        records: [L], RECORD.
        edges: tables of EDGE_SCHEMA.
        heavy: HEAVY_SCHEMA.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    records: NDArray[np.void]
    edges: Sequence[pa.Table]
    heavy: pa.Table


@dataclass(slots=True)
class _Gathered:
    """Collect looks, edges and heavy groups while groups are gone through."""

    hashes: list[int] = field(default_factory=list[int])
    counts: list[int] = field(default_factory=list[int])
    rows: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list[NDArray[np.uint8]])
    edges: list[pa.Table] = field(default_factory=list[pa.Table])
    heavy: list[tuple[str, int, int, int, int, int]] = field(
        default_factory=list[tuple[str, int, int, int, int, int]]
    )

    def add_looks(self, phash: int, rows: NDArray[np.int64], looks: NDArray[np.uint8]) -> None:
        self.hashes.append(phash)
        self.counts.append(len(rows))
        self.rows.append(rows)
        self.thumbnails.append(looks)

    def add_edges(
        self, phash: int, left: NDArray[np.int64], right: NDArray[np.int64], kind: Kind
    ) -> None:
        if len(left):
            hashes = np.full(len(left), phash, np.uint64)
            ends = np.minimum(left, right), np.maximum(left, right)
            self.edges.append(make_edges(*ends, kind, hashes=(hashes, hashes)))


def find_looks(
    hashes: NDArray[np.uint64],
    rows: NDArray[np.int64],
    thumbnails: NDArray[np.uint8],
    *,
    most_change: float,
    max_looks: int,
    fresh_from: int = 0,
) -> Looks:
    """Find the looks of every pHash that a new sample has.

    Args:
        hashes: [N], of old and new samples.
        rows: [N], row numbers.
        thumbnails: [N, 192].
        most_change: between two thumbnails that are near (`thumbnails.py`).
        max_looks: of one pHash.
        fresh_from: rows from here on are new; edges between old ones are left out, for an earlier
            generation has found them, and so are the looks of pHashes that got no new one.
    """
    fresh = rows >= fresh_from
    wanted = np.flatnonzero(fresh.all() | np.isin(hashes, hashes[fresh]))
    order = wanted[np.lexsort((rows[wanted], hashes[wanted]))]
    ordered = hashes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(order)])
    ends = np.r_[starts[1:], len(order)].astype(np.int64)
    found = _Gathered()
    is_alone = ends - starts == 1
    alone = order[starts[is_alone]]
    for start, end in zip(starts[~is_alone].tolist(), ends[~is_alone].tolist(), strict=True):
        group = order[start:end]
        _gather(
            found, int(hashes[group[0]]), rows[group], thumbnails[group],
            most_change=most_change, max_looks=max_looks, fresh_from=fresh_from,
        )  # fmt: skip
    return _finish(found, hashes[alone], rows[alone], thumbnails[alone])


def _gather(
    found: _Gathered,
    phash: int,
    rows: NDArray[np.int64],
    thumbnails: NDArray[np.uint8],
    *,
    most_change: float,
    max_looks: int,
    fresh_from: int,
) -> None:
    """Add the looks and the edges of one pHash; rows are sorted."""
    looks, first, member = np.unique(thumbnails, axis=0, return_index=True, return_inverse=True)
    standing = rows[first]  # the earliest sample of each look
    is_heavy = len(looks) > max_looks
    stand_in = standing[member.reshape(-1)]
    known = (rows != stand_in) & (is_heavy | (rows >= fresh_from))
    found.add_edges(phash, stand_in[known], rows[known], Kind.LOOK)
    if is_heavy:
        leader = _choose_leaders(looks, most_change, max_looks)
        led = (leader >= 0) & (leader != np.arange(len(looks)))
        found.add_edges(phash, standing[leader[led]], standing[led], Kind.LOOK)
        chosen = np.unique(leader[leader >= 0])
        skipped = int((leader < 0).sum())
        found.heavy.append(("phash", phash, len(rows), len(looks), len(chosen), skipped))
        found.add_looks(phash, standing[chosen], looks[chosen])
        return
    left, right = np.triu_indices(len(looks), k=1)
    near = find_near_thumbnails(looks, looks, left, right, most_change)
    near &= (standing[left] >= fresh_from) | (standing[right] >= fresh_from)
    found.add_edges(phash, standing[left[near]], standing[right[near]], Kind.NEAR)
    if (standing >= fresh_from).any():
        found.add_looks(phash, standing, looks)


def _choose_leaders(
    looks: NDArray[np.uint8], most_change: float, max_looks: int
) -> NDArray[np.int64]:
    """Give each look's leader: [L, 192] -> [L], -1 where no leader is near.

    The first look that has none leads all that are near to it and have none, and so on.
    """
    leader = np.full(len(looks), -1, np.int64)
    for _ in range(max_looks):
        left = np.flatnonzero(leader < 0)
        if not len(left):
            break
        first = np.full(len(left), left[0])
        near = find_near_thumbnails(looks, looks, first, left, most_change)
        leader[left[near]] = left[0]
    return leader


def find_near_thumbnails(
    one: NDArray[np.uint8],
    other: NDArray[np.uint8],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    most_change: float,
) -> NDArray[np.bool_]:
    """Tell between which pairs of thumbnails there is no more than the change.

    Args:
        one: [A, 192].
        other: [B, 192].
        left: [P], rows of `one`.
        right: [P], rows of `other`.
        most_change: inclusive; of `measure_change`.
    """
    near = np.empty(len(left), bool)
    for low in range(0, len(left), _AT_ONCE):
        part = slice(low, low + _AT_ONCE)
        change = measure_change(one[left[part]], other[right[part]])
        near[part] = change <= np.float32(most_change)  # in the precision of the measure
    return near


def _finish(
    found: _Gathered,
    hashes: NDArray[np.uint64],
    rows: NDArray[np.int64],
    thumbnails: NDArray[np.uint8],
) -> Looks:
    """Put samples that are alone with their pHash and those of groups together."""
    counts = np.concatenate([np.ones(len(rows), np.int64), np.array(found.counts, np.int64)])
    records = np.empty(int(counts.sum()), RECORD)
    records["row"] = np.concatenate([rows, *found.rows])
    records["thumbnail"] = np.concatenate([thumbnails, *found.thumbnails])
    columns = list(zip(*found.heavy, strict=True)) or [()] * len(HEAVY_SCHEMA)
    return Looks(
        hashes=np.concatenate([hashes, np.array(found.hashes, np.uint64)]),
        starts=np.cumsum(counts) - counts,
        counts=counts,
        records=records,
        edges=found.edges,
        heavy=pa.table([pa.array(column) for column in columns], schema=HEAVY_SCHEMA)
        if found.heavy
        else HEAVY_SCHEMA.empty_table(),
    )


def expand_pairs(
    left: NDArray[np.int64], right: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Turn pairs of groups into pairs of their members, some at a time.

    Args:
        left: [P], groups.
        right: [P].
        counts: [G], members of each group, which are numbered through group by group.

    Yields:
        Number of the pair, left member, right member: [Q] each.
    """
    starts = np.cumsum(counts) - counts
    sizes = counts[left] * counts[right]
    ends = np.cumsum(sizes)
    low = 0
    while low < len(left):
        before = int(ends[low] - sizes[low])
        high = max(low + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
        pair = np.repeat(np.arange(low, high), sizes[low:high])
        place = np.arange(len(pair)) - (ends[pair] - sizes[pair] - before)
        width = counts[right[pair]]
        yield pair, starts[left[pair]] + place // width, starts[right[pair]] + place % width
        low = high
