"""Count for how many samples each text was written, over all shards, in bounded memory.

a shard's texts -> samples of each -> sorted into bins of hashes: `_captions-NNNNN.texts.arrow`
one bin of all shards -> texts that several shards have -> samples in all: `_counts-NNNNN`
a shard's own count, unless `_counts` knows more -> column `pictures`
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.stages.duplicates.shuffle import BinWriter, Part, bins_of, read_part

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

TEXTS = ".texts.arrow"
_ENTRIES = pa.schema([("text", pa.uint64()), ("samples", pa.int64())])
COUNTS_SCHEMA = pa.schema([("shard", pa.int32()), ("text", pa.uint64()), ("samples", pa.int64())])


def count_own(attempts: pa.Table) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Count the samples of each text of a shard: texts ascending [T], samples [T].

    A sample counts once for a text that several of its attempts have. Captions from the web, which
    belong to no captioner, do not count.
    """
    known = attempts.filter(attempts["text_hash"].is_valid())
    known = known.filter(pc.invert(known["from_web"]))
    samples = known[KEY].combine_chunks().dictionary_encode().indices.to_numpy()
    pairs = np.stack([known["text_hash"].to_numpy(), samples.astype(np.uint64)], axis=1)
    distinct = np.unique(pairs, axis=0)
    texts, counts = np.unique(distinct[:, 0], return_counts=True)
    return texts, counts


def write_texts(path: Path, attempts: pa.Table, num_bins: int) -> None:
    """Write a shard's texts, sorted by bin."""
    texts, counts = count_own(attempts)
    with BinWriter(path, _ENTRIES) as writer:
        entries = pa.record_batch([pa.array(texts), pa.array(counts)], schema=_ENTRIES)
        writer.write(entries, bins_of(texts, num_bins), num_bins)


def count_shared(own: ShardSet, names: Sequence[str], number: int, count: int) -> pa.Table:
    """Count the texts of one bin that more than one shard has: COUNTS_SCHEMA, by shard.

    Args:
        own: where the files of `write_texts` are.
        names: of the shards' tables, in order.
        number: of the bin.
        count: of all bins.
    """
    parts: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
    for name in names:
        entries = read_part(own, f"{name}{TEXTS}", Part(bin=number, num_bins=count))
        parts.append((entries["text"].to_numpy(), entries["samples"].to_numpy()))
    sizes = [len(texts) for texts, _ in parts]
    texts = np.concatenate([np.empty(0, np.uint64), *(texts for texts, _ in parts)])
    samples = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in parts)])
    shards = np.repeat(np.arange(len(parts)), sizes)
    _, group, num_shards = np.unique(texts, return_inverse=True, return_counts=True)
    totals = np.zeros(len(num_shards), np.int64)
    np.add.at(totals, group, samples)
    shared = num_shards[group] > 1
    columns = [shards[shared].astype(np.int32), texts[shared], totals[group][shared]]
    return pa.table([pa.array(column) for column in columns], schema=COUNTS_SCHEMA)


def write_shared(path: Path, table: pa.Table) -> None:
    """Write what `count_shared` gave, one row group for each shard."""
    shards = table["shard"].to_numpy()
    ends = np.flatnonzero(np.r_[shards[1:] != shards[:-1], np.ones(min(1, len(shards)), bool)]) + 1
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for start, end in pairwise([0, *ends.tolist()]):
            writer.write_table(table.slice(start, end - start))


def count_pictures(
    own: ShardSet, attempts: pa.Table, names: Sequence[str], number: int
) -> NDArray[np.int32]:
    """Count for each attempt the samples that have its text, its own included: [N]; 0 for "".

    Args:
        own: where the files of `write_shared` are.
        attempts: of a shard.
        names: of the files.
        number: of the shard.
    """
    texts, counts = count_own(attempts)
    for _, table in _row_groups(own, names, number):
        places = np.searchsorted(texts, table["text"].to_numpy())
        counts[places] = table["samples"].to_numpy()
    hashes = attempts["text_hash"].fill_null(0).to_numpy()
    places = np.minimum(np.searchsorted(texts, hashes), max(len(texts) - 1, 0))
    known = attempts["text_hash"].is_valid().to_numpy()
    if not len(texts):
        return known.astype(np.int32)
    counted = np.where(texts[places] == hashes, counts[places], 1)
    return np.where(known, counted, 0).astype(np.int32)


def digest_shared(own: ShardSet, names: Sequence[str]) -> dict[int, str]:
    """Give a digest of what each shard has in the files of `write_shared`: number -> sha256."""
    parts: dict[int, list[bytes]] = {}
    for number, table in _row_groups(own, names):
        columns = [np.ascontiguousarray(table[name].to_numpy()) for name in ("text", "samples")]
        data = b"".join(column.tobytes() for column in columns)
        parts.setdefault(number, []).append(hashlib.sha256(data).digest())
    return {number: hashlib.sha256(b"".join(own)).hexdigest() for number, own in parts.items()}


def _row_groups(
    own: ShardSet, names: Sequence[str], only: int | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """Yield (shard number, rows) of some files, or one shard's rows alone."""
    for name in names:
        with pq.ParquetFile(own.table_path(name)) as file:
            for index in range(file.num_row_groups):
                group = file.metadata.row_group(index)
                if not group.num_rows:
                    continue
                number = group.column(0).statistics.min
                if only is None or number == only:
                    yield number, file.read_row_group(index)
