"""Merge many sorted tables into one sorted stream without holding any of them.

    a piece of each table -> the rows up to the earliest last row -> sorted -> yielded -> next piece

Memory: number of readers x rows of a batch x bytes of a row, twice while a piece is sorted. More
than `FAN_IN` readers are merged in groups into temporary files first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
FAN_IN = 256  # files open at once; chosen by us: far below the usual limit of 1024
BATCH_ROWS = 4096  # chosen by us: 256 x 4096 rows of 100 bytes are 105 MB

Open = Callable[[], Iterator[pa.Table]]
"""Opens a sorted table and yields it in pieces, in order."""


def merge_sorted(
    tables: Sequence[Open], by: Sequence[str], scratch: Path, fan_in: int = FAN_IN
) -> Iterator[pa.Table]:
    """Yield the rows of all tables in the order of some columns, in pieces.

    Args:
        tables: each sorted ascending by the columns; all of one schema.
        by: names of the columns; together unique, or equal rows come in any order.
        scratch: folder for temporary files, needed when there are more than `fan_in` tables.
        fan_in: how many are merged at a time, at least 2.
    """
    level = 0
    while len(tables) > fan_in:
        groups = [tables[start : start + fan_in] for start in range(0, len(tables), fan_in)]
        tables = [
            _write(scratch / f"merge-{level}-{number}.parquet", _merge(group, by))
            for number, group in enumerate(groups)
        ]
        level += 1
    yield from _merge(tables, by)


def read_pieces(path: Path, rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
    """Read a parquet file in pieces."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=rows):
            yield pa.Table.from_batches([batch])


def cut_by(pieces: Iterable[pa.Table], column: str, rows: int) -> Iterator[pa.Table]:
    """Cut a sorted stream into tables of one value of a column and at most so many rows."""
    waiting: pa.Table | None = None
    for piece in pieces:
        for part in _runs(piece, column):
            if waiting is not None and waiting[column][0] != part[column][0]:
                yield waiting
                waiting = None
            waiting = part if waiting is None else pa.concat_tables([waiting, part])
            while waiting is not None and len(waiting) >= rows:
                yield waiting.slice(0, rows)
                waiting = waiting.slice(rows) if len(waiting) > rows else None
    if waiting is not None:
        yield waiting


def _runs(piece: pa.Table, column: str) -> Iterator[pa.Table]:
    """Split a sorted piece where the column changes."""
    start = 0
    for count in pc.value_counts(piece[column]).field("counts").to_pylist():
        yield piece.slice(start, count)
        start += count


def _merge(tables: Sequence[Open], by: Sequence[str]) -> Iterator[pa.Table]:
    streams = [open_table() for open_table in tables]
    waiting = {number: piece for number, s in enumerate(streams) if (piece := next(s, None))}
    while waiting:
        # Rows after the earliest of the last rows may still be preceded by rows not read yet.
        lasts = pa.concat_tables([piece.slice(len(piece) - 1) for piece in waiting.values()])
        bound = _sort(lasts, by).slice(0, 1)
        ready: list[pa.Table] = []
        for number in list(waiting):
            piece = waiting[number]
            count = _num_up_to(piece, bound, by)
            ready.append(piece.slice(0, count))
            rest = piece.slice(count)
            following = rest if len(rest) else next(streams[number], None)
            if following is None:
                del waiting[number]
            else:
                waiting[number] = following
        yield _sort(pa.concat_tables(ready), by)


def _sort(table: pa.Table, by: Sequence[str]) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in by])


def _num_up_to(piece: pa.Table, bound: pa.Table, by: Sequence[str]) -> int:
    """Count the rows of a sorted piece that are not after the bound."""
    after = pa.scalar(False)
    equal = pa.scalar(True)
    for name in by:
        value = bound[name][0]
        after = pc.or_(after, pc.and_(equal, pc.greater(piece[name], value)))
        equal = pc.and_(equal, pc.equal(piece[name], value))
    return len(piece) - pc.sum(after.cast(pa.int64())).as_py()


def _write(path: Path, pieces: Iterator[pa.Table]) -> Open:
    writer: pq.ParquetWriter | None = None
    for piece in pieces:
        writer = writer or pq.ParquetWriter(path, piece.schema)
        writer.write_table(piece)
    if writer is None:
        return lambda: iter(())
    writer.close()
    return lambda: read_pieces(path)
