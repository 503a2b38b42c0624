"""Find equal values among the entries of one bin: bytes, pixels, hashes and miniatures.

entries of the bin, of all groups -> equal values -> edges from the first sample to each new one
                                  -> different hashes, for the near wave
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.manifest import Task
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.stages.duplicates.dedup_config import OFF, DedupConfig
from curate.stages.duplicates.edge_table import HEAVY_SCHEMA, make_edges, write_edges
from curate.stages.duplicates.edges import Kind
from curate.stages.duplicates.forms import pack_forms
from curate.stages.duplicates.groups import EQUALITIES, fixed_words
from curate.stages.duplicates.looks import Looks, find_looks
from curate.stages.duplicates.near import PHASH_ENTRY, pack_places
from curate.stages.duplicates.shuffle import (
    BinWriter,
    Part,
    bins_of,
    fixed_bytes,
    fixed_column,
    read_part,
)
from curate.stages.duplicates.signals import FORMED_SIGNALS, Signal, find_signal, radius_of

_KINDS = {"bytes": Kind.EXACT, "pixels": Kind.PIXELS}


def write_same(own: ShardSet, config: DedupConfig, task: Task, place: Place) -> None:
    """Write the edges of equal values in a bin, and the different hashes for the near wave."""
    name, groups, fresh_from = task.shard, task.params["groups"], task.params["fresh_from"]
    part = Part(bin=task.params["bin"], num_bins=task.params["bins"])
    signals = {
        name: find_signal(config, name, num_bins, task.params["num_hashes"])
        for name, num_bins in task.params["near_bins"].items()
    }
    edges: list[pa.Table] = []
    heavy = HEAVY_SCHEMA.empty_table()
    for kind in EQUALITIES:
        entries = _read(own, groups, kind, part)
        rows = entries["row"].to_numpy()
        first = first_rows(fixed_bytes(entries["value"]), rows)
        edges.append(_star(first, rows, fresh_from, _KINDS[kind]))
    if config.phash_radius != OFF:
        looks = _find_looks(_read(own, groups, "phash", part), config, fresh_from)
        edges += looks.edges
        heavy = looks.heavy
        _write_looks(place.out, name, looks, signals["phash"])
    for kind in FORMED_SIGNALS:
        if radius_of(config, kind) == OFF:
            continue
        entries = _read(own, groups, kind, part)
        rows = entries["row"].to_numpy()
        first = first_rows(fixed_bytes(entries["value"]), rows)
        edges.append(_star(first, rows, fresh_from, Kind.LOOK))
        standing = np.flatnonzero((first == rows) & (rows >= fresh_from))
        path = place.out / f"{name}.{kind}.arrow"
        _write_forms(path, entries.take(pa.array(standing)), signals[kind])
    write_edges(place, name, edges, heavy)


def first_rows(values: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give for every entry the smallest row with an equal value.

    Args:
        values: [N, 8 W] bytes.
        rows: [N], row numbers.
    """
    first = rows.copy()
    words = np.ascontiguousarray(values).view("<u8")  # [N, W]
    order = np.argsort(words[:, 0], kind="stable")
    equal = words[order[1:], 0] == words[order[:-1], 0]
    some = order[np.r_[equal, False] | np.r_[False, equal]] if len(order) else order
    some = some[np.lexsort((rows[some], *words[some].T))]  # by value, then by row
    starts = np.ones(len(some), bool)
    starts[1:] = (words[some[1:]] != words[some[:-1]]).any(axis=1)
    if len(some):
        first[some] = rows[some[starts]][np.cumsum(starts) - 1]
    return first


def _star(
    first: NDArray[np.int64], rows: NDArray[np.int64], fresh_from: int, kind: Kind
) -> pa.Table:
    """Make edges from the first of equal samples to each new one."""
    wanted = (first != rows) & (rows >= fresh_from)
    return make_edges(first[wanted], rows[wanted], kind)


def _read(own: ShardSet, groups: Sequence[str], kind: str, part: Part) -> pa.RecordBatch:
    batches: list[pa.RecordBatch] = []
    for group in groups:
        batch = read_part(own, f"{group}.{kind}.arrow", part)
        here = bins_of(fixed_words(batch["value"]), part.num_bins) == part.bin
        batches.append(batch if here.all() else batch.filter(pa.array(here)))
    return pa.concat_batches(batches)


def _find_looks(entries: pa.RecordBatch, config: DedupConfig, fresh_from: int) -> Looks:
    return find_looks(
        entries["value"].to_numpy(),
        entries["row"].to_numpy(),
        fixed_bytes(entries["thumbnail"]),
        most_change=config.thumbnail_change,
        max_looks=config.max_looks,
        fresh_from=fresh_from,
    )


def _write_looks(folder: Path, name: str, looks: Looks, signal: Signal) -> None:
    (folder / f"{name}.looks").write_bytes(looks.records.tobytes())
    places = pack_places(looks.starts, looks.counts)
    entries = pa.record_batch([pa.array(looks.hashes), pa.array(places)], schema=PHASH_ENTRY)
    _write_bands(folder / f"{name}.phash.arrow", entries, looks.hashes, signal)


def _write_forms(path: Path, entries: pa.RecordBatch, signal: Signal) -> None:
    """Write the hashes of all forms: where there are none, the value is the only hash."""
    forms = entries["forms"] if "forms" in entries.schema.names else entries["value"]
    values = fixed_bytes(forms).reshape(-1, signal.num_bits // 8)
    num_forms = forms.type.byte_width * 8 // signal.num_bits
    hashes = values.view("<u8").astype(np.uint64)
    hashes = hashes[:, 0] if hashes.shape[1] == 1 else hashes
    places = pa.array(pack_forms(entries["row"].to_numpy(), num_forms))
    batch = pa.record_batch({"hash": fixed_column(values), "form": places})
    _write_bands(path, batch, hashes, signal)


def _write_bands(
    path: Path, entries: pa.RecordBatch, hashes: NDArray[np.uint64], signal: Signal
) -> None:
    """Write the entries band by band, or once for all bands where one bin holds them all."""
    with BinWriter(path, entries.schema) as writer:
        if signal.num_bins == 1:
            writer.write(entries, np.zeros(len(entries), np.int64), 1)
            return
        for band in signal.bands:
            bins = bins_of(band.values(hashes), signal.num_bins)
            writer.write(entries, bins, signal.num_bins)
