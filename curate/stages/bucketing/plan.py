"""Deal all samples to output shards: one bucket per shard, in the order of the samples' draws.

Samples that are at home in a bucket and copies of samples from a smaller resolution never share a
shard, so that encode writes captions for whole shards or for none.

    samples in the order of (draw, key), all shards merged -> rank within each of its buckets
    rank // shard_size -> which of the bucket's shards; rank % shard_size -> which row

One pass knows a sample's shards at all resolutions, and so its home: the row of the smallest.
Memory is two unfinished shards for each bucket, besides what the merge holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.geometry import Geometry, list_buckets
from curate.core.merge import read_pieces
from curate.core.schema import OK, shard_name
from curate.stages.bucketing.sizes import SIZES_SCHEMA

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_DEALT = [
    pa.field("shard", pa.string()),
    pa.field("bucket", pa.string()),
    pa.field("resolution", pa.int32()),
    pa.field("home_shard", pa.string()),
    pa.field("home_row", pa.int32()),
]
_COPIED = (
    "key", "status", "source_shard", "height", "width", "offset", "bytes", "captions_offset",
    "captions_bytes",
)  # fmt: skip
PLAN_SCHEMA = pa.schema([*(SIZES_SCHEMA.field(name) for name in _COPIED), *_DEALT])

_ROWS_AT_ONCE = 65_536  # chosen by us: arrays of some MB while rows are numbered

Place = tuple[int, str, bool]
"""What the samples of a shard have in common: resolution, bucket's name, whether at home."""


def list_places(geometry: Geometry) -> list[Place]:
    """List resolutions and buckets in the order of their shards: small pictures first.

    Each bucket has two: the home at 2 n, that of copies at 2 n + 1.
    """
    return [
        (side, bucket.name, is_home)
        for side in geometry.resolutions
        for bucket in list_buckets(geometry, side)
        for is_home in (True, False)
    ]


def read_placed(path: Path) -> Iterator[pa.Table]:
    """Read the samples that go on from a table of `_sizes`, in pieces that hold some."""
    for piece in read_pieces(path):
        placed = piece.filter(pc.equal(piece["status"], OK)).drop_columns(["score", "threshold"])
        if len(placed):
            yield placed


def count_places(tables: Iterable[pa.Table], geometry: Geometry) -> Counter[Place]:
    """Count the samples of every place in tables with the column `buckets`."""
    places = list_places(geometry)
    counts: Counter[Place] = Counter()
    for table in tables:
        numbers = _number_places(table, places, geometry)
        for number, count in zip(
            *np.unique(numbers[numbers >= 0], return_counts=True), strict=True
        ):
            counts[places[int(number)]] += int(count)
    return counts


def deal(
    pieces: Iterable[pa.Table],
    counts: Mapping[Place, int],
    geometry: Geometry,
    shard_size: int,
) -> Iterator[pa.Table]:
    """Yield the rows of every output shard, as each becomes full.

    Args:
        pieces: rows of `read_placed`, in the order of draw and key.
        counts: how many samples each place will have.
        geometry: of the sizes.
        shard_size: samples of a shard, at most.

    Returns:
        Tables of PLAN_SCHEMA, one for each shard, in the order of rows; of shards in the order in
        which they fill, which depends on the samples alone.
    """
    places = list_places(geometry)
    dealer = _Dealer(places, counts, shard_size)
    waiting: dict[int, list[pa.Table]] = {number: [] for number in range(len(places))}
    for piece in _cut(pieces):
        for number, rows in dealer.deal(piece, geometry):
            waiting[number].append(rows)
            while sum(map(len, waiting[number])) >= shard_size:
                joined = pa.concat_tables(waiting[number])
                yield joined.slice(0, shard_size)
                waiting[number] = [joined.slice(shard_size)]
    for parts in waiting.values():
        if sum(map(len, parts)):
            yield pa.concat_tables(parts)


class _Dealer:
    """Give samples their ranks in their buckets, piece by piece."""

    def __init__(self, places: Sequence[Place], counts: Mapping[Place, int], shard_size: int):
        sizes = np.array([counts.get(place, 0) for place in places], np.int64)
        shards = -(-sizes // shard_size)
        self._places = places
        self._shard_size = shard_size
        self._first_shard = np.cumsum(shards) - shards  # [P], number of a bucket's first shard
        self._names = np.array([shard_name(n) for n in range(int(shards.sum()))], object)
        self._dealt = np.zeros(len(places), np.int64)  # [P], samples so far

    def deal(self, piece: pa.Table, geometry: Geometry) -> Iterator[tuple[int, pa.Table]]:
        """Yield (place, rows of PLAN_SCHEMA) for each resolution and bucket of a piece."""
        numbers = _number_places(piece, self._places, geometry)  # [N, R], -1 for none
        ranks = np.stack([self._rank(column) for column in numbers.T], axis=1)
        shards = self._first_shard[numbers] + ranks // self._shard_size
        rows = ranks % self._shard_size
        first = (numbers >= 0).argmax(axis=1)  # the smallest resolution that has the sample
        everyone = np.arange(len(piece))
        home_shard, home_row = shards[everyone, first], rows[everyone, first]
        for column in range(numbers.shape[1]):
            for number, chosen in _group(numbers[:, column]):
                # Copied, not sliced: a row that waits must not hold its whole piece in memory.
                part = piece.select(_COPIED).take(pa.array(chosen))
                side, bucket, _ = self._places[number]
                dealt = [
                    pa.array(self._names[shards[chosen, column]], pa.string()),
                    pa.repeat(pa.scalar(bucket), len(chosen)),
                    pa.repeat(pa.scalar(side, pa.int32()), len(chosen)),
                    pa.array(self._names[home_shard[chosen]], pa.string()),
                    pa.array(home_row[chosen], pa.int32()),
                ]
                yield number, pa.table([*part.columns, *dealt], schema=PLAN_SCHEMA)

    def _rank(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count each sample's predecessors in its bucket; -1 has none."""
        ranks = np.zeros(len(numbers), np.int64)
        for number, chosen in _group(numbers):
            ranks[chosen] = self._dealt[number] + np.arange(len(chosen))
            self._dealt[number] += len(chosen)
        return ranks


def _cut(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut pieces, which may be a million rows of a merge, to what is dealt at once."""
    for piece in pieces:
        for start in range(0, len(piece), _ROWS_AT_ONCE):
            yield piece.slice(start, _ROWS_AT_ONCE)


def _number_places(
    piece: pa.Table, places: Sequence[Place], geometry: Geometry
) -> NDArray[np.int64]:
    """Give each row's places in `places`, one for each resolution: [N, R], -1 for none."""
    sides = len(geometry.resolutions)
    names = _bucket_names(piece, sides)
    numbers = np.full((len(piece), sides), -1, np.int64)
    for column, side in enumerate(geometry.resolutions):
        homes = [n for n, place in enumerate(places) if place[0] == side and place[2]]
        value_set = pa.array([places[n][1] for n in homes], pa.string())
        found = pc.index_in(names.take(_column(names, column, geometry)), value_set=value_set)
        found = found.fill_null(-1).to_numpy(zero_copy_only=False)
        is_copy = (numbers[:, :column] >= 0).any(axis=1)
        numbers[:, column] = np.where(found >= 0, homes[0] + 2 * found + is_copy, -1)
    return numbers


def _bucket_names(table: pa.Table, num: int) -> pa.Array:
    """Give the names of all rows one after the other, `num` each."""
    names = table["buckets"].combine_chunks().flatten()
    assert len(names) == num * len(table), "a row has one bucket name for each resolution"
    return names


def _column(names: pa.Array, column: int, geometry: Geometry) -> pa.Array:
    return pa.array(np.arange(column, len(names), len(geometry.resolutions)))


def _group(numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each number >= 0 with the rows that have it, in order."""
    order = np.argsort(numbers, kind="stable")
    values, counts = np.unique(numbers, return_counts=True)
    ends = counts.cumsum()
    for value, start, end in zip(values.tolist(), ends - counts, ends, strict=True):
        if value >= 0:
            yield value, order[start:end]
