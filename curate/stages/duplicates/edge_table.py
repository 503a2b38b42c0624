"""Hold the edges of one task on disk, and put those of all tasks together.

An edge knows the pHashes of its ends where one led to it: when a later generation gathers the
different looks of a pHash around other leaders, the edges that the old leaders had go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.stages.duplicates.edges import Edges, Kind

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

EDGE_SCHEMA = pa.schema(
    [
        ("left", pa.int64()),  # row numbers of samples, the smaller first
        ("right", pa.int64()),
        ("kind", pa.int8()),  # edges.Kind
        ("distance", pa.float32()),
        ("left_hash", pa.uint64()),  # pHash; null where no pHash led here
        ("right_hash", pa.uint64()),
    ]
)
HEAVY_SCHEMA = pa.schema(
    [
        ("signal", pa.string()),  # phash, pdq or semantic
        ("value", pa.uint64()),  # the pHash; null for all others
        ("samples", pa.int64()),  # of the pHash, or with more near embeddings than are kept
        ("looks", pa.int64()),  # different thumbnails, or heavy runs of a band
        ("leaders", pa.int64()),  # that stand for them
        ("skipped", pa.int64()),  # looks that no leader is near to, or pairs not compared
    ]
)
"""What was bounded: a row for each pHash with too many looks, one for each task with heavy runs or
crowded embeddings; what a row does not tell of is null."""


def make_edges(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    kind: Kind,
    distance: NDArray[np.float32] | None = None,
    hashes: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None,
) -> pa.Table:
    """Make edges of one kind.

    Args:
        left: [E], row numbers.
        right: [E].
        kind: of all.
        distance: [E]; None for 0.
        hashes: pHashes of the left and of the right ends.
    """
    nulls = pa.nulls(len(left), pa.uint64())
    columns = [
        pa.array(left),
        pa.array(right),
        pa.array(np.full(len(left), kind, np.int8)),
        pa.array(np.zeros(len(left), np.float32) if distance is None else distance),
        *((nulls, nulls) if hashes is None else (pa.array(hashes[0]), pa.array(hashes[1]))),
    ]
    return pa.table(columns, schema=EDGE_SCHEMA)


def write_edges(place: Place, shard: str, parts: Sequence[pa.Table], heavy: pa.Table) -> None:
    """Write a task's edges, and what it bounded."""
    edges = pa.concat_tables([EDGE_SCHEMA.empty_table(), *parts])
    order = [(name, "ascending") for name in ("left", "right", "kind")]
    pq.write_table(edges.sort_by(order), place.out / f"{shard}.parquet", compression="zstd")
    if len(heavy):
        pq.write_table(heavy, place.out / f"{shard}.heavy.parquet", compression="zstd")


def read_edges(own: ShardSet, generations: Sequence[Sequence[str]]) -> Edges:
    """Put the edges of all tasks together, without those that a later generation replaced.

    Args:
        own: dedup's shard set.
        generations: names of the tasks of each generation.
    """
    kept: list[pa.Table] = [EDGE_SCHEMA.empty_table()]
    replaced = np.empty(0, np.uint64)
    for names in reversed(generations):
        for name in names:
            kept.append(_without(own.table(name), replaced))
        replaced = np.unique(np.concatenate([replaced, *_heavy_hashes(own, names)]))
    table = pa.concat_tables(kept)
    return Edges(
        left=table["left"].to_numpy(),
        right=table["right"].to_numpy(),
        kind=table["kind"].to_numpy(),
        distance=table["distance"].to_numpy(),
    )


def read_heavy(own: ShardSet, names: Iterable[str]) -> pa.Table:
    """Put together what tasks bounded, and remember the tasks."""
    parts = [HEAVY_SCHEMA.empty_table()]
    for name in names:
        if f"{name}.heavy.parquet" in own.marker(name).files:
            parts.append(own.table(f"{name}.heavy"))
    return pa.concat_tables(parts)


def count_heavy(heavy: pa.Table) -> Counter[str]:
    """Count what was bounded: pHashes, runs of bands, what was left out of both, and samples.

    `crowded_samples` had more near embeddings than are kept; one counts in each of its cells.
    """
    is_hash = heavy["value"].is_valid().to_numpy()
    is_semantic = pc.equal(heavy["signal"], "semantic").to_numpy()
    told = {name: heavy[name].fill_null(0).to_numpy() for name in ("samples", "looks", "skipped")}
    looks, skipped = told["looks"], told["skipped"]
    return Counter(
        heavy_hashes=int(is_hash.sum()),
        heavy_runs=int(looks[~is_hash].sum()),
        skipped_looks=int(skipped[is_hash].sum()),
        skipped_comparisons=int(skipped[~is_hash].sum()),
        crowded_samples=int(told["samples"][is_semantic].sum()),
    )


def _heavy_hashes(own: ShardSet, names: Iterable[str]) -> list[NDArray[np.uint64]]:
    values = read_heavy(own, names)["value"].drop_null()
    return [values.to_numpy()] if len(values) else []


def _without(edges: pa.Table, replaced: NDArray[np.uint64]) -> pa.Table:
    """Drop the edges that end at one of the pHashes."""
    if not len(replaced):
        return edges
    gone = np.zeros(len(edges), bool)
    for name in ("left_hash", "right_hash"):
        known = edges[name].is_valid().to_numpy()
        gone |= known & np.isin(edges[name].fill_null(0).to_numpy(), replaced)
    return edges.filter(pa.array(~gone))
