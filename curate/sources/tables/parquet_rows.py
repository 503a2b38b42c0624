"""Read parquet from any row group on, a batch at a time."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import DataError
from curate.sources.tables.row_block import ArrowBlock

_BUFFER_BYTES = 2**20  # read at once of a column, instead of all of a row group's


class ParquetReader:
    """Read one parquet file.

    Args:
        source: its path, or a stream that can seek.
        place: what messages call it.

    Raises:
        DataError: two columns have one name.
    """

    def __init__(self, source: Path | BinaryIO, place: str) -> None:
        self._file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self.schema: pa.Schema = self._file.schema_arrow
        self.names = tuple(self.schema.names)
        if len(set(self.names)) < len(self.names):
            raise DataError(
                f"{place}: column names must differ, got {', '.join(self.names)}; rename them"
            )
        groups = self._file.metadata
        sizes = [groups.row_group(index).num_rows for index in range(groups.num_row_groups)]
        self._starts = list(accumulate(sizes, initial=0))
        self.num_rows = self._starts[-1]

    def nearest(self, row: int) -> int:
        """Give the first row of the row group that holds this one."""
        return self._starts[self._group(row)] if len(self._starts) > 1 else 0

    def blocks(self, row: int, batch_rows: int) -> Iterator[ArrowBlock]:
        """Yield all rows from `nearest(row)` on."""
        if row >= self.num_rows:
            return
        groups = range(self._group(row), len(self._starts) - 1)
        for batch in self._file.iter_batches(batch_rows, row_groups=groups, use_threads=False):
            yield ArrowBlock(batch)

    def _group(self, row: int) -> int:
        last = len(self._starts) - 2
        return min(bisect.bisect_right(self._starts, row) - 1, last)
