"""Find near hashes among the entries of one bin, band by band, and verify them.

entries of the bin (old, new) -> runs that hold a new one -> pairs within the radius, each once
phash:       pairs -> looks of both pHashes, read by position -> thumbnails agree -> edges
pdq, window: pairs -> one end is a picture as it is -> miniatures agree -> edges (`forms.py`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.manifest import Task
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.stages.duplicates.bands import Band
from curate.stages.duplicates.cropped import measure_crop
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.edge_table import EDGE_SCHEMA, HEAVY_SCHEMA, make_edges, write_edges
from curate.stages.duplicates.edges import Kind
from curate.stages.duplicates.forms import (
    are_plain,
    edges_of_forms,
    rows_of,
    split_forms,
    verify_forms,
)
from curate.stages.duplicates.hamming import pairs_in_band
from curate.stages.duplicates.looks import RECORD, expand_pairs, find_near_thumbnails
from curate.stages.duplicates.plain_pairs import find_plain_pairs
from curate.stages.duplicates.runs import Near
from curate.stages.duplicates.shuffle import Part, bins_of, fixed_bytes, read_part
from curate.stages.duplicates.signals import count_forms, find_signal
from curate.stages.duplicates.turned import measure_turned

PHASH_ENTRY = pa.schema([("hash", pa.uint64()), ("place", pa.int64())])

_COUNT_BITS, _POSITION_BITS = 8, 32  # of a place; the rest is the number of the file
_COUNT, _POSITION = (1 << _COUNT_BITS) - 1, (1 << _POSITION_BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Hold hashes of one part.

    Args:
        hashes: uint64 [N] or [N, 4].
        places: [N], int64: of looks, or of forms.
        fresh: [N], whether they are of the newest generation.
    """

    hashes: NDArray[np.uint64]
    places: NDArray[np.int64]
    fresh: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: NDArray[np.int64]) -> Entries:
        """Keep some entries."""
        return Entries(hashes=self.hashes[rows], places=self.places[rows], fresh=self.fresh[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPairs:
    """Hold pairs of near hashes, at least one of them new.

    Args:
        places: [P, 2].
        hashes: [P, 2], their first words.
        bits: [P], that differ.
        num_heavy_runs: runs of a band that were not compared in full.
        num_skipped: comparisons that were left out in them.
    """

    places: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    bits: NDArray[np.float32]
    num_heavy_runs: int
    num_skipped: int


def write_near(own: ShardSet, config: DedupConfig, task: Task, place: Place) -> None:
    """Write the edges of near hashes that some bands of a bin lead to."""
    params = task.params
    name, names = params["signal"], params["names"]
    signal = find_signal(config, name, params["bins"], params["num_hashes"])
    files = [f"{shard}.{name}.arrow" for shard in names]
    parts: list[NearPairs] = []
    for band in signal.bands[slice(*params["bands"])]:
        part = Part(
            bin=params["bin"], num_bins=signal.num_bins, band=band.number,
            num_bands=len(signal.bands),
        )  # fmt: skip
        entries = read_entries(own, files, params["num_old"], part, band)
        entries = take_compared(entries, band, are_looks=name == "phash")
        find = find_form_pairs if count_forms(config, name) > 1 else find_pairs
        parts.append(find(entries, band, signal.radius, config.max_run))
    found = join_found(parts)
    if name == "phash":
        looks = [f"{shard}.looks" for shard in names]
        edges = verify_looks(own, looks, found, config.thumbnail_change)
    else:
        edges = _verify_forms(own, config, name, params["groups"], found)
    write_edges(place, task.shard, [edges], _heavy_runs(name, found))


def pack_places(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Name the looks of pHashes in a file: [H] positions of the first, [H] numbers of looks."""
    return (starts << _COUNT_BITS) | (counts - 1)


def read_entries(
    own: ShardSet, names: Sequence[str], num_old: int, part: Part, band: Band
) -> Entries:
    """Read the entries of one band and bin.

    Args:
        own: dedup's shard set.
        names: files, those of earlier generations first.
        num_old: how many are of earlier generations.
        part: what to read.
        band: whose values decide on the bin.
    """
    hashes: list[NDArray[np.uint64]] = []
    places: list[NDArray[np.int64]] = []
    fresh: list[NDArray[np.bool_]] = []
    for number, name in enumerate(names):
        batch = read_part(own, name, part)
        some = _words(batch["hash"])
        here = np.flatnonzero(bins_of(band.values(some), part.num_bins) == part.bin)
        numbered = batch.column(1).to_numpy()[here]
        if batch.schema == PHASH_ENTRY:
            numbered = numbered | (number << (_COUNT_BITS + _POSITION_BITS))
        hashes.append(some[here])
        places.append(numbered)
        fresh.append(np.full(len(here), number >= num_old))
    return Entries(
        hashes=np.concatenate(hashes), places=np.concatenate(places), fresh=np.concatenate(fresh)
    )


def take_compared(entries: Entries, band: Band, *, are_looks: bool) -> Entries:
    """Keep what shares a value of the band with a new entry.

    Args:
        entries: of one band and bin.
        band: of them.
        are_looks: whether a later entry of a hash stands for earlier ones: it names all looks.
    """
    if entries.fresh.all():
        return entries
    entries = entries.take(_sharing(entries, band, entries.fresh))
    return _drop_replaced(entries) if are_looks else entries


def find_pairs(entries: Entries, band: Band, radius: int, max_run: int) -> NearPairs:
    """List the near pairs of a band that have a new end and agree on no earlier band."""
    found = pairs_in_band(entries.hashes, band, radius, max_run=max_run)
    pairs = found.pairs
    near = Near(one=pairs.left, other=pairs.right, bits=pairs.distance.astype(np.uint16))
    return _name_pairs(entries, near, found.num_heavy_runs, found.num_skipped)


def find_form_pairs(entries: Entries, band: Band, radius: int, max_run: int) -> NearPairs:
    """List the near pairs of a band of which one end is new, and one a picture as it is."""
    entries = entries.take(_sharing(entries, band, are_plain(entries.places)))
    found = find_plain_pairs(
        entries.hashes,
        rows_of(entries.places),
        are_plain(entries.places),
        band,
        radius,
        max_run=max_run,
    )
    return _name_pairs(entries, found.near, found.num_heavy_runs, found.num_skipped)


def _sharing(entries: Entries, band: Band, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """List the entries that share a value of the band with a wanted one."""
    values = band.values(entries.hashes)
    return np.flatnonzero(np.isin(values, values[wanted]))


def _name_pairs(entries: Entries, near: Near, num_heavy_runs: int, num_skipped: int) -> NearPairs:
    """Say what is near by its places; pairs of old ones go."""
    near = near.take(entries.fresh[near.one] | entries.fresh[near.other])
    words = entries.hashes if entries.hashes.ndim == 1 else entries.hashes[:, 0]
    return NearPairs(
        places=np.stack([entries.places[near.one], entries.places[near.other]], axis=1),
        hashes=np.stack([words[near.one], words[near.other]], axis=1),
        bits=near.bits.astype(np.float32),
        num_heavy_runs=num_heavy_runs,
        num_skipped=num_skipped,
    )


def join_found(parts: Sequence[NearPairs]) -> NearPairs:
    """Put the pairs of several bands together."""
    return NearPairs(
        places=np.concatenate([np.empty((0, 2), np.int64), *(part.places for part in parts)]),
        hashes=np.concatenate([np.empty((0, 2), np.uint64), *(part.hashes for part in parts)]),
        bits=np.concatenate([np.empty(0, np.float32), *(part.bits for part in parts)]),
        num_heavy_runs=sum(part.num_heavy_runs for part in parts),
        num_skipped=sum(part.num_skipped for part in parts),
    )


def verify_looks(
    own: ShardSet, names: Sequence[str], found: NearPairs, most_change: float
) -> pa.Table:
    """Make edges of the looks of near pHashes whose thumbnails agree.

    Args:
        own: dedup's shard set.
        names: files of looks, in the order in which places number them.
        found: pairs of pHashes.
        most_change: between two thumbnails.
    """
    groups, member = np.unique(found.places, return_inverse=True)
    member = member.reshape(found.places.shape)
    records = _read_looks(own, names, groups)
    counts = (groups & _COUNT) + 1
    parts: list[pa.Table] = []
    for pair, one, other in expand_pairs(member[:, 0], member[:, 1], counts):
        near = find_near_thumbnails(
            records["thumbnail"], records["thumbnail"], one, other, most_change
        )
        pair, left, right = pair[near], records["row"][one[near]], records["row"][other[near]]
        swap = left > right
        hashes = found.hashes[pair]
        hashes[swap] = hashes[swap][:, ::-1]
        ends = np.minimum(left, right), np.maximum(left, right)
        bits = found.bits[pair]
        parts.append(make_edges(*ends, Kind.NEAR, bits, (hashes[:, 0], hashes[:, 1])))
    return pa.concat_tables([EDGE_SCHEMA.empty_table(), *parts])


def _verify_forms(
    own: ShardSet,
    config: DedupConfig,
    name: str,
    groups: Sequence[tuple[str, int]],
    found: NearPairs,
) -> pa.Table:
    """Make edges of the forms whose miniatures agree; PDQ's may be taken as they are."""
    pairs = split_forms(found.places, found.bits)
    if name == "window":
        pairs = verify_forms(own, groups, pairs, measure_crop, config.crop_change)
        is_whole = pairs.form == 0
        near = edges_of_forms(pairs.take(is_whole), Kind.NEAR)
        return pa.concat_tables([near, edges_of_forms(pairs.take(~is_whole), Kind.CROPPED)])
    if config.pdq_change:
        pairs = verify_forms(own, groups, pairs, measure_turned, config.pdq_change)
    return edges_of_forms(pairs, Kind.PDQ)


def _drop_replaced(entries: Entries) -> Entries:
    """Keep the latest entry of every pHash: it names all looks of it, those of before too."""
    _, last = np.unique(entries.hashes[::-1], return_index=True)  # files are in time's order
    return entries.take(np.sort(len(entries) - 1 - last))


def _heavy_runs(signal: str, found: NearPairs) -> pa.Table:
    """Say how many runs were not compared in full, if any."""
    if not found.num_heavy_runs:
        return HEAVY_SCHEMA.empty_table()
    row = {"signal": signal, "looks": found.num_heavy_runs, "skipped": found.num_skipped}
    return pa.Table.from_pylist([row], schema=HEAVY_SCHEMA)


def _read_looks(own: ShardSet, names: Sequence[str], groups: NDArray[np.int64]) -> NDArray[np.void]:
    """Read the looks of some pHashes, group after group; groups are sorted, so files are, too."""
    counts = (groups & _COUNT) + 1
    starts = (groups >> _COUNT_BITS) & _POSITION
    files = groups >> (_COUNT_BITS + _POSITION_BITS)
    records = np.empty(int(counts.sum()), RECORD)
    ends = np.cumsum(counts)
    for number in map(int, np.unique(files)):
        low, high = np.searchsorted(files, [number, number + 1]).tolist()
        with own.store.open(names[number]) as stream:
            for group in range(low, high):
                stream.seek(int(starts[group]) * RECORD.itemsize)
                data = stream.read(int(counts[group]) * RECORD.itemsize)
                here = slice(int(ends[group] - counts[group]), int(ends[group]))
                records[here] = np.frombuffer(data, RECORD)
    return records


def _words(column: pa.Array) -> NDArray[np.uint64]:
    if column.type == pa.uint64():
        return column.to_numpy()
    words = fixed_bytes(column).view("<u8").astype(np.uint64)
    return words[:, 0] if words.shape[1] == 1 else words
