"""Keep the miniatures of a group's samples where any of them is read by its row number.

phash.miniature of some shards' kept samples -> NAME.miniatures: 3,072 bytes a row, in order
                                             -> entries: digest, row, hashes of all windows
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from curate.core.shard import ShardSet
from curate.stages.duplicates.shuffle import fixed_bytes, fixed_column
from curate.stages.duplicates.windows import MINIATURE_BYTES, SIDE, WINDOWS, hash_windows

SUFFIX = "miniatures"
_DIGEST_BYTES = 16
_HASHED_AT_ONCE = 4096  # chosen by us: 150 MB of float64
ENTRY = pa.schema(
    [
        ("value", pa.binary(_DIGEST_BYTES)),  # of the miniature
        ("row", pa.int64()),
        ("forms", pa.binary(8 * len(WINDOWS))),
    ]
)


def write_miniatures(column: pa.Array, first_row: int, stream: BinaryIO) -> pa.RecordBatch:
    """Write some samples' miniatures behind those of the samples before.

    Args:
        column: of annotate, in the order of rows; a sample without one takes zeros and no entry.
        first_row: of the samples.
        stream: of the file.

    Returns:
        ENTRY of each sample that has a miniature.
    """
    known = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    cells = np.zeros((len(column), MINIATURE_BYTES), np.uint8)
    cells[known] = fixed_bytes(column.take(pa.array(known)))
    stream.write(cells.tobytes())
    some = cells[known]
    parts = [np.empty((0, len(WINDOWS)), np.uint64)]
    for low in range(0, len(some), _HASHED_AT_ONCE):
        parts.append(hash_windows(_as_cells(some[low : low + _HASHED_AT_ONCE])))
    forms = np.concatenate(parts).astype("<u8").view(np.uint8).reshape(len(some), -1)
    digests = pa.array([xxhash.xxh3_128_digest(row.tobytes()) for row in some], ENTRY.types[0])
    columns = [digests, pa.array(first_row + known), fixed_column(forms)]
    return pa.record_batch(columns, schema=ENTRY)


def read_miniatures(
    own: ShardSet, groups: Sequence[tuple[str, int]], rows: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Read the miniatures of some samples.

    Args:
        own: dedup's shard set.
        groups: (name, first row) of groups, in the order of rows.
        rows: [N], sorted, without repeats.

    Returns:
        [N, 32, 32, 3].
    """
    found = np.empty((len(rows), MINIATURE_BYTES), np.uint8)
    ends = [*(first for _, first in groups[1:]), np.iinfo(np.int64).max]
    for (name, first), end in zip(groups, ends, strict=True):
        low, high = np.searchsorted(rows, [first, end]).tolist()
        if high > low:
            _read_some(own, f"{name}.{SUFFIX}", rows[low:high] - first, found[low:high])
    return _as_cells(found)


def _read_some(own: ShardSet, name: str, places: NDArray[np.int64], into: Any) -> None:
    """Read the miniatures at some places of a file, neighbours at once."""
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    with own.store.open(name) as stream:
        for low, high in zip(starts.tolist(), [*starts[1:].tolist(), len(places)], strict=True):
            stream.seek(int(places[low]) * MINIATURE_BYTES)
            data = stream.read((high - low) * MINIATURE_BYTES)
            into[low:high] = np.frombuffer(data, np.uint8).reshape(-1, MINIATURE_BYTES)


def _as_cells(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return values.reshape(-1, SIDE, SIDE, 3)
