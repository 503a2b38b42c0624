"""Write the clusters of all shards as one file of which every shard reads its own row group."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.shard import ShardSet

_GROUPS = "latentmill.groups"  # in the metadata: shard -> (row group, digest of its rows)


def write_clusters(rows: pa.Table, path: Path) -> None:
    """Write one row group for each shard, and in the metadata where it is and what it says.

    Args:
        rows: CLUSTER_SCHEMA, sorted by shard.
        path: of the file.
    """
    groups: dict[str, tuple[int, str]] = {}
    shards = rows["shard"].combine_chunks().dictionary_encode()
    codes = shards.indices.to_numpy()
    starts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
    ends = [*starts[1:], *([len(rows)] if starts else [])]
    writer: Any
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for number, (low, high) in enumerate(zip(starts, ends, strict=True)):
            some = rows.slice(low, high - low).combine_chunks()
            writer.write_table(some)
            groups[some["shard"][0].as_py()] = (number, _digest(some))
        writer.add_key_value_metadata({_GROUPS: json.dumps(groups, sort_keys=True)})


def read_cluster_groups(own: ShardSet, name: str) -> dict[str, tuple[int, str]]:
    """Give the row group of each shard with duplicates, and a digest of its rows."""
    with pq.ParquetFile(own.table_path(name)) as file:
        groups = json.loads((file.metadata.metadata or {})[_GROUPS.encode()])
    return {shard: (number, digest) for shard, (number, digest) in groups.items()}


def read_cluster_group(own: ShardSet, name: str, number: int) -> list[dict[str, Any]]:
    """Read a row group; -1 is that of a shard without duplicates."""
    if number < 0:
        return []
    with pq.ParquetFile(own.table_path(name)) as file:
        return file.read_row_group(number).to_pylist()


def _digest(rows: pa.Table) -> str:
    text = json.dumps(rows.to_pylist(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
