"""Find pictures that mean the same by their embeddings, cell by cell.

    first generations' shards -> centroids of cells: `_cells` (`semantic_cells.py`), kept by all
    some shards' embeddings -> nearest cells -> an entry for each cell, in bins of cells: `_spread-`
    a bin of cells, of all files -> pairs of at least the cosine, one end new -> edges: `_semantic-`

The pairs are verified, so cells decide only on what is missed: two rows that share none of their
nearest cells (fewer than 1 in 1,000: benchmarks/semantic.py). That is why an added shard may end
otherwise than in one run over all: the cells are those of the first generations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.stages.duplicates.cells import nearest_cells
from curate.stages.duplicates.cosine import Cell, pairs_above
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.edge_table import HEAVY_SCHEMA, make_edges, write_edges
from curate.stages.duplicates.edges import Kind
from curate.stages.duplicates.embeddings import MAX_NORM_ERROR, Embeddings, blocks, check_embeddings
from curate.stages.duplicates.groups import Sources, read_column
from curate.stages.duplicates.shuffle import BinWriter, Part, fixed_bytes, fixed_column, read_part

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
CELLS, SPREAD, SEMANTIC = "_cells", "_spread-", "_semantic-"

_NEARLY = 1e-3  # chosen by us: float32 products of 1,024 dimensions are off by 2e-4 at most
_LEAST_NORM = (1 - MAX_NORM_ERROR) ** 2
_FRESH_ROWS = 1024  # chosen by us: products of 1,024 x 16,384, 64 MB
_OLD_ROWS = 16_384
_USUAL_BYTES = 2048


def write_spread(
    own: ShardSet, sources: Sources, config: DedupConfig, task: Task, place: Place
) -> None:
    """Write the embeddings of some shards, each to its nearest cells' bins."""
    centroids = read_centroids(own)
    parts: list[pa.RecordBatch] = []
    rows = task.params["first_row"]
    for shard in task.params["shards"]:
        table = read_column(sources, shard, config.semantic_column)
        known = np.flatnonzero(table["value"].is_valid().to_numpy())
        embeddings = _to_numpy(table["value"].take(pa.array(known)), shard, config.semantic_column)
        near = np.zeros((len(embeddings), 1), np.int32)
        if len(centroids) and len(embeddings):
            near = nearest_cells(embeddings, centroids, config.num_nearest)
        some = _entries(table.take(pa.array(known)), rows + known, embeddings, near)
        parts.append(some)
        rows += len(table)
    # Without any embedding their width is not known; empty parts differ in it from the others.
    entries = pa.concat_batches([part for part in parts if len(part)] or parts[:1])
    num_bins = task.params["bins"]
    cells = entries["cell"].to_numpy()
    with BinWriter(place.out / f"{task.shard}.arrow", entries.schema) as writer:
        writer.write(entries, _bins_of_cells(cells, len(centroids), num_bins), num_bins)


def write_semantic(own: ShardSet, config: DedupConfig, task: Task, place: Place) -> None:
    """Write the edges of a bin of cells that have a new end."""
    params = task.params
    num_crowded = 0
    parts: list[pa.Table] = []
    for cell, entries in read_cells(own, params["names"], params["bin"], params["bins"]):
        rows = entries["row"].to_numpy()
        if not (rows >= params["fresh_from"]).any():
            continue
        entries = _near_fresh(entries, params["fresh_from"], config.semantic_min_cosine)
        rows = entries["row"].to_numpy()
        near = fixed_bytes(entries["cells"]).view("<i4")
        found = pairs_above(
            embeddings_of(entries),
            rows,
            config.semantic_min_cosine,
            cell=Cell(number=cell, near=near),
        )
        num_crowded += found.num_crowded
        pairs = found.pairs
        wanted = np.maximum(pairs.left, pairs.right) >= params["fresh_from"]
        left, right = pairs.left[wanted], pairs.right[wanted]
        parts.append(make_edges(left, right, Kind.SEMANTIC, pairs.distance[wanted]))
    heavy = HEAVY_SCHEMA.empty_table()
    if num_crowded:
        row = {"signal": "semantic", "samples": num_crowded}
        heavy = pa.Table.from_pylist([row], schema=HEAVY_SCHEMA)
    write_edges(place, task.shard, parts, heavy)


def vector_bytes(measured: ShardSet, shard: str, config: DedupConfig) -> int:
    """Give the size of an embedding; of lists of any length that of 1,024 half precisions."""
    kind = measured.schema(shard).field(config.semantic_column).type
    if not pa.types.is_fixed_size_list(kind):
        return _USUAL_BYTES
    return kind.list_size * kind.value_type.bit_width // 8


def read_embeddings(
    sources: Sources, config: DedupConfig, shard: str
) -> tuple[list[str], Embeddings]:
    """Read the keys and embeddings of a shard's kept samples that have one.

    Raises:
        DataError: an embedding that is not finite or whose norm is not 1.
    """
    table = read_column(sources, shard, config.semantic_column)
    known = table.filter(table["value"].is_valid())
    return known[KEY].to_pylist(), _to_numpy(known["value"], shard, config.semantic_column)


def _to_numpy(column: pa.ChunkedArray, shard: str, name: str) -> Embeddings:
    """Give lists of numbers as [N, D], checked."""
    if not len(column):
        return np.empty((0, 1), np.float16)
    values = pc.list_flatten(column.combine_chunks())
    kind = np.float16 if values.type == pa.float16() else np.float32
    flat: Any = np.asarray(values.to_numpy(zero_copy_only=False), kind)
    if len(pc.unique(pc.list_value_length(column))) > 1:
        raise DataError(
            f"dedup: column {name} of shard {shard} must have vectors of one length, got others; "
            "run annotate again"
        )
    embeddings: Embeddings = flat.reshape(len(column), -1)
    try:
        check_embeddings(embeddings)
    except DataError as error:
        raise DataError(f"dedup: column {name} of shard {shard}: {error}") from error
    return embeddings


def _entries(
    table: pa.Table, rows: NDArray[np.int64], embeddings: Embeddings, near: NDArray[np.int32]
) -> pa.RecordBatch:
    """Give an entry for each cell of each row."""
    entry, nth = np.divmod(np.arange(near.size), near.shape[1])
    cells = np.ascontiguousarray(near).view(np.uint8)
    data = np.ascontiguousarray(embeddings).view(np.uint8)
    taken = table.take(pa.array(entry)).combine_chunks()
    return pa.record_batch(
        {
            "cell": pa.array(near[entry, nth]),
            "row": pa.array(rows[entry]),
            "key": _one(taken[KEY]),
            "num_pixels": _one(taken["num_pixels"]),
            "cells": fixed_column(cells[entry]),
            "embedding": fixed_column(data[entry]),
        }
    ).replace_schema_metadata({"dtype": str(embeddings.dtype)})


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    chunks = column.combine_chunks()
    return chunks.chunk(0) if isinstance(chunks, pa.ChunkedArray) else chunks


def _bins_of_cells(cells: NDArray[np.int32], num_cells: int, num_bins: int) -> NDArray[np.int64]:
    """Give the bin of each cell: consecutive cells, as many in each bin."""
    return cells.astype(np.int64) * num_bins // max(1, num_cells)


def read_cells(
    own: ShardSet, names: Sequence[str], number: int, num_bins: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (cell, its entries, the largest picture first) of a bin."""
    part = Part(bin=number, num_bins=num_bins)
    num_cells = len(read_centroids(own))
    batches: list[pa.RecordBatch] = []
    for name in names:
        batch = read_part(own, f"{name}.arrow", part)
        here = _bins_of_cells(batch["cell"].to_numpy(), num_cells, num_bins) == number
        batches.append(batch.filter(pa.array(here)))
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        return
    entries = pa.concat_batches(batches)
    order = [("cell", "ascending"), ("num_pixels", "descending"), (KEY, "ascending")]
    entries = entries.take(pc.sort_indices(entries, sort_keys=order))
    cells = entries["cell"].to_numpy()
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    for low, high in zip(starts.tolist(), [*starts[1:].tolist(), len(cells)], strict=True):
        yield int(cells[low]), entries.slice(low, high - low)


def _near_fresh(entries: pa.RecordBatch, fresh_from: int, min_cosine: float) -> pa.RecordBatch:
    """Keep the new rows and those old ones that may be near one, so that old pairs stay done."""
    fresh = entries["row"].to_numpy() >= fresh_from
    if fresh.all():
        return entries
    embeddings = embeddings_of(entries)
    old = np.flatnonzero(~fresh)
    wanted = fresh.copy()
    for _, some in blocks(embeddings[fresh], _FRESH_ROWS):
        for start, others in blocks(embeddings[old], _OLD_ROWS):
            # Norms are 1 but for rounding, so a cosine of min_cosine gives no smaller product.
            near = (others @ some.T).max(axis=1) >= (min_cosine - _NEARLY) * _LEAST_NORM
            wanted[old[start : start + len(others)][near]] = True
    return entries.filter(pa.array(wanted))


def embeddings_of(entries: pa.RecordBatch) -> Embeddings:
    """Give the embeddings of entries: [N, D]."""
    kind = (entries.schema.metadata or {})[b"dtype"].decode()
    return np.ascontiguousarray(fixed_bytes(entries["embedding"])).view(kind)


def read_centroids(own: ShardSet) -> NDArray[np.float32]:
    """Read the centroids of the cells: [K, D], or [0, 0]."""
    with own.store.open(f"{CELLS}.npy") as stream:
        return np.load(stream, allow_pickle=False)
