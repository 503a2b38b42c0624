"""Read the side tables of a shard set one after the other, in memory that does not grow with them.

    side tables -> parts, a table a shard -> some rows at random, the rows of some keys, top counts

"At random" means by key: keys are hashes, so the smallest ones are a fair sample, the same one
every time and for every sharding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.core.schema import KEY
from curate.core.shard import ShardSet

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers


def read_parts(shards: ShardSet | None, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield those of the columns that each side table has, shard by shard."""
    for shard in shards.shards() if shards else ():
        assert shards is not None, "an absent shard set has no shards"
        if shards.has_table(shard):
            names = set(shards.schema(shard).names)
            yield shards.table(shard, [name for name in columns if name in names])


def read_columns(shards: ShardSet | None, columns: Sequence[str]) -> pa.Table | None:
    """Read those of the columns that the side tables have, all shards joined; None without any."""
    parts = list(read_parts(shards, columns))
    return pa.concat_tables(parts, promote_options="default") if parts else None


def sample_rows(parts: Iterable[pa.Table], limit: int) -> pa.Table | None:
    """Choose at most `limit` rows at random, in the order of their keys; None without parts."""
    chosen: pa.Table | None = None
    for part in parts:
        joined = [part] if chosen is None else [chosen, part]
        if chosen is not None and chosen.num_rows == limit > 0:  # only smaller keys may enter
            joined[1] = part.filter(pc.less(part[KEY], pc.max(chosen[KEY])))
            if not joined[1].num_rows:
                continue
        rows = pa.concat_tables(joined, promote_options="default")
        places = pc.select_k_unstable(rows, k=limit, sort_keys=[(KEY, "ascending")])
        chosen = rows.take(places).combine_chunks()
    return chosen


def take_rows(
    shards: ShardSet | None, keys: Collection[str], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of some keys, those of the columns that are there."""
    wanted = pa.array(sorted(keys), pa.string())
    for part in read_parts(shards, [KEY, *columns]) if keys else ():
        yield from part.filter(pc.is_in(part[KEY], value_set=wanted)).to_pylist()


def order_by_hash(names: Iterable[str]) -> list[str]:
    """Order names as good as at random, yet the same every time."""
    return sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
