"""Sort the captions of all shards by their MinHash bands on disk, and count near ones bin by bin.

    a shard's captions -> SHARD.captions.arrow: 16 bands of entries, each cut into bins
    one bin of all shards, band after band -> (shard, text, near samples) of those that have any

An entry holds all that a comparison needs: 16 entries of about 120 bytes for each different caption
of a shard, or 2 GB for a million captions of 12 words, read once. Memory of a bin: up to 800
bytes an entry, where all have near ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.shard import ShardSet
from curate.stages.duplicates.captions import Captions, count_near
from curate.stages.duplicates.shuffle import BinWriter, Part, bins_of, read_part
from curate.stages.matching.minhash import NUM_BANDS, Sets, bands_of

CAPTIONS = ".captions.arrow"
_ENTRY = pa.schema(
    [
        ("value", pa.uint64()),  # of the band
        ("text", pa.uint64()),
        ("samples", pa.int64()),
        ("set", pa.list_(pa.int32())),
    ]
)
NEAR_SCHEMA = pa.schema([("shard", pa.int32()), ("text", pa.uint64()), ("near", pa.int64())])


def write_captions(path: Path, captions: Captions, num_bins: int) -> None:
    """Write the entries of a shard's captions, for all bands.

    Args:
        path: of the file.
        captions: of the shard.
        num_bins: a power of two.
    """
    bands = bands_of(captions.sets)
    sets = pa.ListArray.from_arrays(
        pa.array(captions.sets.ends, pa.int32()), pa.array(captions.sets.values)
    )
    with BinWriter(path, _ENTRY) as writer:
        for band in range(NUM_BANDS):
            columns = [bands[:, band], captions.texts, captions.samples]
            entries = pa.record_batch([*map(pa.array, columns), sets], schema=_ENTRY)
            writer.write(entries, bins_of(bands[:, band], num_bins), num_bins)


def count_near_in_bin(
    own: ShardSet, shards: Sequence[str], number: int, num_bins: int, min_jaccard: float
) -> pa.Table:
    """Count the near samples of the captions in a bin, over all bands.

    Args:
        own: where the shards' entries are.
        shards: names of their files without `CAPTIONS`, in order.
        number: of the bin.
        num_bins: a power of two, for which the files were written.
        min_jaccard: from which on captions are near.

    Returns:
        NEAR_SCHEMA, sorted by shard and text. `near` counts other samples than one; all bins
        together count each once.
    """
    found = [
        _count_in_band(
            own, shards, Part(bin=number, num_bins=num_bins, band=band, num_bands=NUM_BANDS),
            min_jaccard,
        )
        for band in range(NUM_BANDS)
    ]  # fmt: skip
    rows = pa.concat_tables(found).group_by(["shard", "text"]).aggregate([("near", "sum")])
    rows = rows.rename_columns({"near_sum": "near"}).select(NEAR_SCHEMA.names)
    return rows.sort_by([("shard", "ascending"), ("text", "ascending")]).cast(NEAR_SCHEMA)


def _count_in_band(
    own: ShardSet, shards: Sequence[str], part: Part, min_jaccard: float
) -> pa.Table:
    batches = [read_part(own, f"{shard}{CAPTIONS}", part) for shard in shards]
    entries = pa.Table.from_batches(batches, schema=_ENTRY).combine_chunks()
    lengths = np.array([len(batch) for batch in batches], np.int64)
    origins = np.repeat(np.arange(len(shards)), lengths)
    captions, values, groups = _join(entries)
    near = count_near(captions, values, part.band, min_jaccard)
    if part.band == 0:  # every caption is in one bin of each band: its own samples count once
        near += captions.samples - 1
    here = near[groups] > 0
    columns = [origins[here], entries["text"].to_numpy()[here], near[groups][here]]
    return pa.table(
        [
            pa.array(column).cast(field.type)
            for column, field in zip(columns, NEAR_SCHEMA, strict=True)
        ],
        schema=NEAR_SCHEMA,
    )


def _join(entries: pa.Table) -> tuple[Captions, NDArray[np.uint64], NDArray[np.int64]]:
    """Join the entries of one caption from several shards.

    Returns:
        N captions, their band values [N], and the caption of each entry [E].
    """
    texts, first, groups = np.unique(
        entries["text"].to_numpy(), return_index=True, return_inverse=True
    )
    samples = np.bincount(groups, entries["samples"].to_numpy(), minlength=len(texts))
    column = entries["set"].combine_chunks()
    column = column if isinstance(column, pa.ListArray) else pa.concat_arrays(column.chunks)
    sets = Sets(
        values=column.values.to_numpy(), ends=column.offsets.to_numpy().astype(np.int64)
    ).take(first)
    captions = Captions(texts=texts, samples=samples.astype(np.int64), sets=sets)
    return captions, entries["value"].to_numpy()[first], groups
