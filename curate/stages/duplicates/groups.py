"""Collect what dedup needs of the kept samples of some shards: facts by row, entries by value.

    shards in order -> kept samples by key -> numbered through, from the group's first row on
        NAME.parquet        facts for the keeper policy, one row a sample
        NAME.bytes.arrow    sha256 of the file, row
        NAME.pixels.arrow   sha256 of the canonical pixels, row
        NAME.phash.arrow    pHash, row, thumbnail
        NAME.pdq.arrow      PDQ hash, row, hashes of the turned picture
        NAME.window.arrow   digest of the miniature, row, pHashes of its windows
        NAME.miniatures     3,072 bytes a row

Each Arrow file is cut into bins by value. Row numbers are dedup's own: they name a sample in all
of its helper tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.core.errors import StageError
from curate.core.manifest import Task
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.stages.duplicates.dedup_config import OFF, DedupConfig
from curate.stages.duplicates.looks import THUMBNAIL_BYTES
from curate.stages.duplicates.miniatures import SUFFIX, write_miniatures
from curate.stages.duplicates.shuffle import BinWriter, bins_of, fixed_bytes, fixed_column
from curate.stages.duplicates.signals import PDQ_FORMS

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
DIGEST_BYTES = 32
_SIZE = ("width", "height")
EQUALITIES: Mapping[str, str] = {"bytes": "sha256", "pixels": "hashes.sha256_pixels"}
"""Kind of entry -> the column whose equal values are equal pictures."""

_MINIATURE = "phash.miniature"
_DIGEST_ENTRY = pa.schema([("value", pa.binary(DIGEST_BYTES)), ("row", pa.int64())])
_PHASH_ENTRY = pa.schema(
    [("value", pa.uint64()), ("row", pa.int64()), ("thumbnail", pa.binary(THUMBNAIL_BYTES))]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Name the shard sets that samples are described in."""

    verdicts: ShardSet
    measured: ShardSet
    ingested: ShardSet


def write_group(sources: Sources, config: DedupConfig, task: Task, place: Place) -> None:
    """Write the facts and entries of a group's shards."""
    name, num_bins, first_row = task.shard, task.params["bins"], task.params["first_row"]
    kept = pa.concat_tables(
        _read_kept(sources, config, shard) for shard in task.params["shards"]
    ).combine_chunks()
    rows = np.arange(first_row, first_row + len(kept))
    facts = [KEY, "shard", *_fact_columns(config)]
    pq.write_table(kept.select(facts), place.out / f"{name}.parquet", compression="zstd")
    windows = _write_miniatures(sources, task, place) if config.needs_miniatures else None
    for kind, entries in _entries_of(kept, rows, config, windows):
        values = fixed_words(entries["value"])
        with BinWriter(place.out / f"{name}.{kind}.arrow", entries.schema) as writer:
            writer.write(entries, bins_of(values, num_bins), num_bins)


def fixed_words(column: pa.Array) -> NDArray[np.uint64]:
    """Give 64-bit values as they are, and the first 64 bits of longer ones: [N]."""
    if column.type == pa.uint64():
        return column.to_numpy()
    return np.ascontiguousarray(fixed_bytes(column)[:, :8]).view("<u8")[:, 0].astype(np.uint64)


def take_facts(
    own: ShardSet, groups: Sequence[tuple[str, int]], rows: NDArray[np.int64]
) -> pa.Table:
    """Read the facts of some samples.

    Args:
        own: dedup's shard set.
        groups: (name, first row) of all groups, in the order of rows.
        rows: sorted, without repeats.
    """
    parts: list[pa.Table] = []
    ends = [*(first for _, first in groups[1:]), np.iinfo(np.int64).max]
    for (name, first), end in zip(groups, ends, strict=True):
        low, high = np.searchsorted(rows, [first, end])
        if high > low or not parts:
            parts.append(own.table(name).take(pa.array(rows[low:high] - first)))
    return pa.concat_tables(parts).combine_chunks()


def _fact_columns(config: DedupConfig) -> list[str]:
    return [
        *dict.fromkeys(config.policy().columns()),
        *(["caption"] if config.keep_captions else []),
    ]


def read_column(sources: Sources, shard: str, name: str) -> pa.Table:
    """Read key, num_pixels and a column of annotate, as `value`, of a shard's kept samples.

    Rows are in the order of their numbers.
    """
    keys = _kept_keys(sources, shard)
    columns = {KEY: keys, "num_pixels": _num_pixels(_align(sources.ingested, shard, keys, _SIZE))}
    found = _align(sources.measured, shard, keys, [name])
    return pa.table({**columns, "value": found[name].combine_chunks()})


def _kept_keys(sources: Sources, shard: str) -> pa.Array:
    verdicts = sources.verdicts.table(shard, [KEY, "keep"])
    keys = verdicts.filter(verdicts["keep"])[KEY].combine_chunks()
    return keys.take(pc.sort_indices(keys))


def _align(tables: ShardSet, shard: str, keys: pa.Array, names: Sequence[str]) -> pa.Table:
    """Read some columns of some samples, in the order of the keys."""
    table = tables.table(shard, [KEY, *names])
    return table.take(pc.index_in(keys, value_set=table[KEY].combine_chunks()))


def _num_pixels(sizes: pa.Table) -> pa.ChunkedArray:
    return pc.multiply(*(sizes[name].cast(pa.int64()) for name in _SIZE))


def _read_kept(sources: Sources, config: DedupConfig, shard: str) -> pa.Table:
    """Read what is needed of a shard's kept samples, sorted by key."""
    keys = _kept_keys(sources, shard)
    facts = [name for name in _fact_columns(config) if name != "num_pixels"]
    measured = {*config.columns(), *(name for name in facts if "." in name)}
    measured -= {config.semantic_column, _MINIATURE}
    told = {"sha256", *_SIZE, *(name for name in facts if "." not in name)}
    columns = {KEY: keys, "shard": pa.array([shard] * len(keys), pa.string())}
    for tables, names in ((sources.measured, measured), (sources.ingested, told)):
        found = _align(tables, shard, keys, sorted(names))
        columns |= {name: found[name].combine_chunks() for name in sorted(names)}
    table = pa.table(columns)
    return table.append_column("num_pixels", _num_pixels(table))


def _entries_of(
    kept: pa.Table,
    rows: NDArray[np.int64],
    config: DedupConfig,
    windows: pa.RecordBatch | None,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield (kind, entries with `value` and `row`) of the samples that have a value."""
    for kind, column in EQUALITIES.items():
        known = np.flatnonzero(kept[column].is_valid().to_numpy())
        values = _from_hex(_array(kept[column].take(pa.array(known))))
        columns = [fixed_column(values), pa.array(rows[known])]
        yield kind, pa.record_batch(columns, schema=_DIGEST_ENTRY)
    if "phash.phash" in kept.column_names:
        known = pa.array(np.flatnonzero(kept["phash.phash"].is_valid().to_numpy()))
        some = kept.take(known).combine_chunks()
        columns = [_array(some["phash.phash"]), pa.array(rows[known.to_numpy()]),
                   _array(some["phash.thumbnail"])]  # fmt: skip
        yield "phash", pa.record_batch(columns, schema=_PHASH_ENTRY)
    if "pdq.hash" in kept.column_names:
        yield "pdq", _pdq_entries(kept, rows, config)
    if windows is not None and config.crop_radius != OFF:
        yield "window", windows


def _write_miniatures(sources: Sources, task: Task, place: Place) -> pa.RecordBatch:
    """Write the miniatures shard by shard; give the entries of all."""
    row = task.params["first_row"]
    parts: list[pa.RecordBatch] = []
    with (place.out / f"{task.shard}.{SUFFIX}").open("wb") as stream:
        for shard in task.params["shards"]:
            column = _array(read_column(sources, shard, _MINIATURE)["value"])
            parts.append(write_miniatures(column, row, stream))
            row += len(column)
    return pa.concat_batches(parts)


def _from_hex(column: pa.Array) -> NDArray[np.uint8]:
    """Turn sha256 digests of 64 hex characters into bytes: [N, 32]."""
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(column)], column), "")
    text = (joined[0].as_py() or "") if len(column) else ""
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, DIGEST_BYTES)


def _pdq_entries(kept: pa.Table, rows: NDArray[np.int64], config: DedupConfig) -> pa.RecordBatch:
    """Give the PDQ hashes of good quality, with those of the turned picture if they are wanted."""
    is_good = pc.greater_equal(kept["pdq.quality"], config.pdq_min_quality).fill_null(False)
    known = np.flatnonzero(pc.and_(is_good, kept["pdq.hash"].is_valid()).to_numpy())
    some = kept.take(pa.array(known)).combine_chunks()
    columns = {"value": _array(some["pdq.hash"]), "row": pa.array(rows[known])}
    if config.pdq_dihedral:
        forms = _array(some["pdq.dihedral"])
        joined = [b"".join(turned or ()) for turned in forms.to_pylist()]
        if any(len(turned) != PDQ_FORMS * DIGEST_BYTES for turned in joined):
            raise StageError(
                "dedup.pdq_dihedral: needs all eight hashes of column pdq.dihedral, got fewer; "
                "run annotate again with annotate.pdq_dihedral=true"
            )
        columns["forms"] = pa.array(joined, pa.binary(PDQ_FORMS * DIGEST_BYTES))
    return pa.record_batch(columns)


def _array(column: pa.ChunkedArray) -> pa.Array:
    chunks = column.combine_chunks()
    return chunks.chunk(0) if isinstance(chunks, pa.ChunkedArray) else chunks
