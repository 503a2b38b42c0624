"""Sort entries into bins on disk, so that a task reads the entries of its own bin and no others.

    values -> bins (top bits of a mixed value) -> one record batch a bin in an Arrow file
    (file, band, bin) -> that record batch alone, by the file's footer

Every task of a wave writes one file of all its entries; a task of the next wave reads one batch of
each of these files, so all files together are read once, whatever the number of bins. Bins are
powers of two and nested: a file that was written with fewer of them serves a reader with more,
which then drops what is not its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.errors import ShardError
from curate.core.shard import ShardSet

_MIX = np.uint64(0x9E3779B97F4A7C15)  # Source: Steele et al. 2014, SplitMix's odd constant
_HALF = np.uint64(32)


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


def count_bins(num_entries: int, most: int) -> int:
    """Give the number of bins, a power of two, that keeps each below `most` entries on average."""
    return 1 << max(0, -(-num_entries // most) - 1).bit_length()


def bins_of(values: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """Give the bin of every value: uint64 [N] -> int64 [N], 0..count - 1.

    Args:
        values: any; equal ones fall into one bin.
        count: of the bins, a power of two; a bin of few is the union of two of twice as many.
    """
    mixed = (values ^ (values >> _HALF)) * _MIX
    mixed = (mixed ^ (mixed >> _HALF)) * _MIX
    num_bits = count.bit_length() - 1
    if not num_bits:
        return np.zeros(len(values), np.int64)
    return (mixed >> np.uint64(64 - num_bits)).astype(np.int64)


class BinWriter:
    """Write the entries of one task, band after band, each band sorted by bin.

    Args:
        path: of the file.
        schema: of the entries.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._writer: Any = pa.ipc.new_file(self._sink, schema)

    def write(self, entries: pa.RecordBatch, bins: NDArray[np.int64], count: int) -> None:
        """Append one band's entries as `count` record batches, empty ones too."""
        order = np.argsort(bins, kind="stable")
        ends = np.searchsorted(bins[order], np.arange(count + 1))
        ordered = entries.take(pa.array(order))
        for low, high in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            self._writer.write_batch(ordered.slice(low, high - low))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        self._sink.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Name the entries that a task reads.

    Args:
        bin: 0..num_bins - 1.
        num_bins: a power of two.
        band: 0..num_bands - 1.
        num_bands: that files hold apart; a file with one batch holds no bands, only values.
    """

    bin: int
    num_bins: int
    band: int = 0
    num_bands: int = 1


def read_part(own: ShardSet, name: str, part: Part) -> pa.RecordBatch:
    """Read the record batch that holds a part's entries.

    It may hold those of other bins as well, if the file has fewer bins or holds no bands.

    Raises:
        ShardError: the file cannot be read.
    """
    with _open(own, name) as file:
        num_batches = file.num_record_batches
        if num_batches == 1:
            return file.get_batch(0)
        num_bins = num_batches // part.num_bands
        return file.get_batch(part.band * num_bins + part.bin * num_bins // part.num_bins)


def fixed_bytes(column: pa.Array) -> NDArray[np.uint8]:
    """View fixed-size bytes without nulls as [N, size]."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    start = column.offset * width
    return data[start : start + len(column) * width].reshape(-1, width)


def fixed_column(values: NDArray[np.uint8]) -> pa.Array:
    """Give [N, size] bytes as a column of fixed-size bytes, the reverse of `fixed_bytes`."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.binary(values.shape[1]), len(values), [None, data])


@contextlib.contextmanager
def _open(own: ShardSet, name: str) -> Generator[Any]:
    try:
        if own.store.is_local:
            with pa.memory_map(str(own.store.local_path(name))) as source:
                yield pa.ipc.open_file(source)
        else:
            with own.store.open(name) as stream:
                yield pa.ipc.open_file(stream)
    except (pa.ArrowException, OSError) as error:
        raise ShardError(
            f"{own.url}/{name}: must be a readable Arrow file, got {error}; rerun its stage"
        ) from error
