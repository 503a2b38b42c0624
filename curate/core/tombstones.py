"""Remember which samples were taken down, so that none of them comes back.

    curate takedown -> NNNNN.parquet, one file a takedown: key, shard, by -> every later ingest

A tombstone holds a key and where its sample lay; no URL, no caption, no hash of the picture.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import StoreError
from curate.core.store import Store

FOLDER = "takedown"
TAKEN_DOWN = "taken_down"
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),  # of ingest; "" when it had none
        pa.field("by", pa.string(), nullable=False),  # keys, urls or hashes
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstones:
    """Hold the keys that may not be kept, and the ingest shards they were found in."""

    keys: frozenset[str]
    shards: Mapping[str, frozenset[str]]

    def digest(self, shard: str) -> str:
        """Give a sha256 over the keys taken out of a shard; "" when there is none."""
        keys = sorted(self.shards.get(shard, ()))
        return hashlib.sha256("\n".join(keys).encode()).hexdigest() if keys else ""


def read_tombstones(store: Store) -> Tombstones:
    """Read all takedowns of a run.

    Raises:
        StoreError: a file is damaged: going on would bring samples back.
    """
    shards: defaultdict[str, set[str]] = defaultdict(set)
    for name in store.names(".parquet"):
        try:
            table = pq.read_table(io.BytesIO(store.read(name)), schema=_SCHEMA)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{store.url}/{name}: must be a readable list of tombstones, got {error}; "
                "restore it from a copy"
            ) from error
        for key, shard in zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True):
            shards[shard].add(key)
    return Tombstones(
        keys=frozenset().union(*shards.values()),
        shards={shard: frozenset(keys) for shard, keys in shards.items()},
    )


def add_tombstones(store: Store, places: Collection[tuple[str, str]], by: str) -> str:
    """Write one takedown's tombstones as a new file.

    Args:
        store: the folder of tombstones.
        places: (key, ingest shard) pairs; a key may lie in a helper shard, too.
        by: what was asked for: "keys", "urls" or "hashes".

    Returns:
        The file's name.
    """
    keys, shards = zip(*sorted(places), strict=True)
    columns = {"key": keys, "shard": shards, "by": [by] * len(keys)}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), stream, compression="zstd")
    name = _next_name(store)
    store.write(name, stream.getvalue())
    return name


def _next_name(store: Store) -> str:
    """Count on from the highest number, so that no file is overwritten when one before is lost."""
    stems = [name.removesuffix(".parquet") for name in store.names(".parquet")]
    highest = max((int(stem) for stem in stems if stem.isdecimal()), default=-1)
    return f"{highest + 1:05d}.parquet"
