"""Cut a table of one or many parts into tasks, and read a task's rows again.

A part is a file (or a data set in memory maps) whose reader gives blocks of rows from some row on:
a parquet file from any row group, a text file from its start. A cursor stays where the last task
ended, so tasks in rising order read every byte once; parts follow each other in order of name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

import pyarrow as pa

from curate.core.errors import DataError
from curate.sources.tables.row_block import RowBlock, join_blocks

READ_ROWS = 16_384


class PartReader(Protocol):
    """Read one part of a table."""

    names: tuple[str, ...]

    def nearest(self, row: int) -> int:
        """Give the last row, at or before this one, where reading can start."""
        ...

    def blocks(self, row: int, batch_rows: int) -> Iterator[RowBlock]:
        """Yield all rows from `nearest(row)` on, at most so many at a time."""
        ...


@runtime_checkable
class SizedReader(PartReader, Protocol):
    """Read a part that knows its length and the types of its columns without being read."""

    schema: pa.Schema
    num_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePart:
    """Name a part and say how it is opened.

    Args:
        name: within the table; of a file its name.
        place: what messages call it.
        open: gives its reader; a worker opens the parts that its tasks need.
        version: gives what tells its versions apart.
    """

    name: str
    place: str
    open: Callable[[], PartReader]
    version: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Hold some consecutive rows of one part: [first, last) of the part with this number."""

    part: int
    first: int
    last: int

    def to_json(self) -> list[int]:
        """Give the span as a task's parameter."""
        return [self.part, self.first, self.last]


class Table:
    """Read a table by row ranges.

    Args:
        place: what messages call the table.
        parts: in order.
        batch_rows: rows that are read at once.
    """

    def __init__(self, place: str, parts: Sequence[TablePart], batch_rows: int = READ_ROWS) -> None:
        self.place = place
        self.parts = tuple(parts)
        self.batch_rows = batch_rows
        self._readers: dict[int, PartReader] = {}
        self._cursor: _Cursor | None = None

    def reader(self, part: int) -> PartReader:
        """Open a part; the first one and the last one used stay open.

        Raises:
            DataError: it cannot be read.
        """
        if part not in self._readers:
            with reading(self.parts[part].place):
                opened = self.parts[part].open()
            first = {0: self._readers[0]} if 0 in self._readers else {}
            self._readers = {**first, part: opened}
        return self._readers[part]

    def shards(self, num_rows: int) -> Iterator[list[tuple[Span, RowBlock]]]:
        """Yield the rows of each task, by the parts they lie in.

        Args:
            num_rows: of a task; the last one may have fewer.
        """
        pieces: list[tuple[Span, RowBlock]] = []
        missing = num_rows
        for part in range(len(self.parts)):
            first = 0
            while (block := self._take(part, first, missing)) is not None:
                span = Span(part=part, first=first, last=first + len(block))
                pieces.append((span, block))
                first, missing = span.last, missing - len(block)
                if missing == 0:
                    yield pieces
                    pieces, missing = [], num_rows
        if pieces:
            yield pieces

    def read(self, span: Span) -> RowBlock:
        """Read a span's rows.

        Raises:
            DataError: they are not there (any more), or cannot be read.
        """
        block = self._take(span.part, span.first, span.last - span.first)
        if block is None or len(block) != span.last - span.first:
            raise changed(self.parts[span.part].place)
        return block

    def _take(self, part: int, first: int, num_rows: int) -> RowBlock | None:
        """Read some rows of a part, fewer at its end; None when there are none."""
        reader = self.reader(part)
        with reading(self.parts[part].place):
            cursor, self._cursor = self._cursor, None
            nearest = reader.nearest(first)
            if cursor is None or cursor.part != part or not nearest <= cursor.row <= first:
                cursor = _Cursor(part, nearest, reader.blocks(first, self.batch_rows))
            cursor.skip(first - cursor.row)
            block = cursor.take(num_rows)
            self._cursor = cursor
            return block


class _Cursor:
    """Stand before a row of a part."""

    def __init__(self, part: int, row: int, blocks: Iterator[RowBlock]) -> None:
        self.part = part
        self.row = row
        self._blocks = blocks
        self._rest: RowBlock | None = None

    def skip(self, num_rows: int) -> None:
        """Pass over some rows."""
        while num_rows and (block := self._next(num_rows)) is not None:
            num_rows -= len(block)

    def take(self, num_rows: int) -> RowBlock | None:
        """Give the next rows, fewer at the end; None there."""
        blocks: list[RowBlock] = []
        while num_rows and (block := self._next(num_rows)) is not None:
            blocks.append(block)
            num_rows -= len(block)
        return join_blocks(blocks) if blocks else None

    def _next(self, num_rows: int) -> RowBlock | None:
        block = self._rest
        while block is None or not len(block):
            if (block := next(self._blocks, None)) is None:
                return None
        self._rest = None
        if len(block) > num_rows:
            self._rest = block.slice(num_rows, len(block))
            block = block.slice(0, num_rows)
        self.row += len(block)
        return block


@contextlib.contextmanager
def reading(place: str) -> Generator[None]:
    """Put what Arrow and the disk say of a broken file into one line.

    Raises:
        DataError: the block failed so.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        kind = PurePosixPath(place.removesuffix(".gz")).suffix[1:]
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{place}: must be a readable {kind} table, got {said[0]}; replace it"
        ) from error


def changed(place: str) -> DataError:
    """Give the error of rows that are no longer those of the plan."""
    return DataError(f"{place}: must stay while the run reads it, got other rows; run again")
