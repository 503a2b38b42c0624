"""Find pairs of duplicates among all kept samples, one bin of hash values at a time.

    `_hashes-NNNNN` of every shard -> the entries of one bin -> runs of equal values -> candidates
                                   -> full hashes and thumbnails of the candidates -> edges

A sample has an entry in a bin for each hash value that falls into it: one for its bytes and one for
its pixels, or one for each band of its pHash. Memory of a bin: about 75 bytes for each entry, whose
number the bins bound on average (all copies of one value fall into one bin), and 1 KB for each pair
within the radius: n different pictures of one pHash make n^2 / 2 pairs. Every bin reads the hash
columns of all shards once, 8 bytes a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.schema import OK
from curate.core.shard import ShardSet
from curate.stages.duplicates.masks import band_masks, pairs_in_band

HASHES = "_hashes-"
HASH_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("num_pixels", pa.int64()),
        ("bytes", pa.binary(32)),  # sha256 of the file
        ("pixels", pa.binary(32)),  # sha256 of the canonical pixels
        ("phash", pa.uint64()),
        ("thumbnail", pa.binary(192)),
    ]
)
EDGE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("kind", pa.string()),
        ("distance", pa.float32()),
        ("num_pixels", pa.int64()),
        ("shard", pa.string()),
        ("other", pa.string()),
        ("other_num_pixels", pa.int64()),
        ("other_shard", pa.string()),
        ("other_row", pa.int64()),
    ]
)
EXACT, PIXELS, NEAR = "exact", "pixels", "near"
_EQUAL_KINDS: Mapping[str, str] = {EXACT: "bytes", PIXELS: "pixels"}
_MIX = np.uint64(0x9E3779B97F4A7C15)  # Source: Steele et al. 2014, SplitMix's odd constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Name one of several bins of hash values.

    Args:
        number: which one, 0..count - 1.
        count: of all bins; every (band, value) lies in exactly one.
    """

    number: int
    count: int

    def holds(self, values: NDArray[np.uint64], band: int) -> NDArray[np.bool_]:
        """Tell which values of a band fall into this bin: uint64 [N] -> bool [N]."""
        mixed = (values ^ np.uint64(band)) * _MIX
        return (mixed >> np.uint64(33)) % np.uint64(self.count) == np.uint64(self.number)


class HashTables:
    """Read the hashes of all kept samples; a row number stands for a sample.

    Args:
        own: dedup's shard set.
        sources: shards with a `_hashes-` table, in order; rows are numbered through.
    """

    def __init__(self, own: ShardSet, sources: Sequence[str]) -> None:
        self._own = own
        self._sources = sources

    def columns(self, *names: str) -> Iterator[tuple[int, pa.Table]]:
        """Yield (number of the first row, columns) of one shard after the other."""
        start = 0
        for source in self._sources:
            table = self._own.table(f"{HASHES}{source}", names)
            yield start, table
            start += len(table)

    def take(self, rows: NDArray[np.int64], *names: str) -> pa.Table:
        """Read some rows, in ascending order, with their numbers in `row` and their `shard`.

        Args:
            rows: sorted, without repeats.
            names: columns to read.
        """
        parts: list[pa.Table] = []
        start = 0
        for source in self._sources:
            length = len(self._own.table(f"{HASHES}{source}", ["phash"]))
            low, high = np.searchsorted(rows, [start, start + length])
            if high > low:
                here = rows[low:high]
                table = self._own.table(f"{HASHES}{source}", names).take(pa.array(here - start))
                table = table.append_column("row", pa.array(here))
                parts.append(table.append_column("shard", pa.array([source] * len(here))))
            start += length
        return pa.concat_tables(parts).combine_chunks()


def find_equal(tables: HashTables, part: Bin) -> Iterator[dict[str, Any]]:
    """Yield an edge from the smallest key to every other sample of equal bytes or equal pixels."""
    for band, (kind, column) in enumerate(_EQUAL_KINDS.items()):
        values, rows = _prefixes(tables, column, part, band)
        if len(values) < 2:
            continue
        order = np.argsort(values, kind="stable")
        repeated = values[order][1:] == values[order][:-1]
        candidates = np.sort(rows[order[np.r_[False, repeated] | np.r_[repeated, False]]])
        if not len(candidates):
            continue
        facts = tables.take(candidates, "key", "num_pixels", column)
        first: dict[bytes, dict[str, Any]] = {}
        for row in facts.sort_by("key").to_pylist():
            keeper = first.setdefault(row[column], row)
            if keeper is not row:
                yield _edge(keeper, row, kind, 0.0)


def find_near(
    tables: HashTables,
    part: Bin,
    repeated: NDArray[np.int64],
    radius: int,
    thumbnail_distance: float,
) -> Iterator[dict[str, Any]]:
    """Yield an edge for each pair of near pHashes whose colour thumbnails agree everywhere.

    A pHash sees luminance only: a red and a blue circle at the same place hash alike.

    Args:
        tables: of all kept samples.
        part: bin to search.
        repeated: sorted rows that equal an earlier one and are left out.
        radius: bits in which two pHashes may differ.
        thumbnail_distance: largest difference of two thumbnails, in 8-bit steps.
    """
    pairs = _near_candidates(tables, part, repeated, radius)
    if not len(pairs):
        return
    rows, index = np.unique(pairs, return_inverse=True)
    facts = tables.take(rows, "key", "num_pixels", "phash", "thumbnail")
    hashes = facts["phash"].to_numpy()
    thumbnails = _fixed(facts["thumbnail"]).astype(np.int16)
    plain = facts.drop_columns(["phash", "thumbnail"]).to_pylist()
    for a, b in index.reshape(pairs.shape):
        if np.abs(thumbnails[a] - thumbnails[b]).max() <= thumbnail_distance:
            bits = float(np.bitwise_count(hashes[a] ^ hashes[b]))
            first, second = sorted((plain[a], plain[b]), key=lambda row: row["key"])
            yield _edge(first, second, NEAR, bits)


def _near_candidates(
    tables: HashTables, part: Bin, repeated: NDArray[np.int64], radius: int
) -> NDArray[np.int64]:
    """Give the pairs of row numbers in a bin that are within the radius: [P, 2], sorted."""
    masks = band_masks(radius)
    entries: list[list[tuple[NDArray[np.uint64], NDArray[np.int64]]]] = [[] for _ in masks]
    for start, table in tables.columns("phash"):
        known = np.flatnonzero(table["phash"].is_valid().to_numpy())
        rows = known + start
        here = slice(*np.searchsorted(repeated, [start, start + len(table)]))
        fresh = ~np.isin(rows, repeated[here], assume_unique=True)
        known, rows = known[fresh], rows[fresh]
        hashes = table["phash"].combine_chunks().take(pa.array(known)).to_numpy().astype(np.uint64)
        for band, mask in enumerate(masks):
            here = part.holds(hashes & mask, band)
            entries[band].append((hashes[here], rows[here]))
    found: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    for band, mask in enumerate(masks):
        hashes = np.concatenate([some for some, _ in entries[band]] or [np.empty(0, np.uint64)])
        rows = np.concatenate([some for _, some in entries[band]] or [np.empty(0, np.int64)])
        entries[band].clear()
        found.append(rows[pairs_in_band(hashes & mask, hashes, radius)])
    return np.unique(np.concatenate(found), axis=0)


def _prefixes(
    tables: HashTables, column: str, part: Bin, band: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Collect the first 8 bytes of a digest and the row, of the samples in a bin."""
    values: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    rows: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for start, table in tables.columns(column):
        known = np.flatnonzero(table[column].is_valid().to_numpy())
        digests = _fixed(table[column].combine_chunks().take(pa.array(known)))
        prefixes = np.ascontiguousarray(digests[:, :8]).view("<u8")[:, 0]
        here = part.holds(prefixes, band)
        values.append(prefixes[here])
        rows.append(known[here] + start)
    return np.concatenate(values), np.concatenate(rows)


def _fixed(column: pa.ChunkedArray | pa.Array) -> NDArray[np.uint8]:
    """View a column of fixed-size bytes without nulls as [N, size]."""
    width = column.type.byte_width
    joined = b"".join(column.to_pylist())
    return np.frombuffer(joined, np.uint8).reshape(-1, width)


def _edge(
    one: Mapping[str, Any], other: Mapping[str, Any], kind: str, distance: float
) -> dict[str, Any]:
    return {
        "key": one["key"],
        "status": OK,
        "kind": kind,
        "distance": distance,
        "num_pixels": one["num_pixels"],
        "shard": one["shard"],
        "other": other["key"],
        "other_num_pixels": other["num_pixels"],
        "other_shard": other["shard"],
        "other_row": other["row"],
    }
