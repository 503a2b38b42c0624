"""Read csv, tsv and plain lists of URLs; a line that is no row keeps its place and its reason.

One stray quote must cost one row, not the file: a quoted cell may run over lines in csv, for at
most 100 of them, and only if the quote closes as RFC 4180 wants it; otherwise the line stands for
itself. In tsv a line is a row, and a cell that merely starts with a quote keeps it.

Source: RFC 4180 (csv); IANA's registration of text/tab-separated-values (no tabs or line breaks in
a cell). Quotes in tsv are read because pandas and Arrow write them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curate.core.errors import DataError
from curate.sources.tables.row_block import ArrowBlock
from curate.sources.tables.text_lines import TextLines

_MAX_LINES = 100  # of one row; chosen by us
_SHOWN = 200  # characters of a broken line that its row keeps
_WEB = ("http://", "https://")
_HEADERLESS: dict[
    tuple[bool, ...], tuple[str, ...]
] = {  # which cells of the first line are URLs -> the columns
    (True,): ("url",),
    (True, False): ("url", "caption"),
    (False, True): ("caption", "url"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Say how the lines of a table are cut into cells.

    Args:
        delimiter: between cells; "" when a line is one cell.
        has_quotes: a cell may be quoted.
        is_multiline: a quoted cell may run over lines.
    """

    delimiter: str
    has_quotes: bool = True
    is_multiline: bool = False


CSV = Dialect(delimiter=",", is_multiline=True)
TSV = Dialect(delimiter="\t")
PLAIN_TSV = Dialect(delimiter="\t", has_quotes=False)
LIST = Dialect(delimiter="", has_quotes=False)


class DelimitedReader:
    """Read a text table from its start.

    Args:
        path: of the file.
        dialect: how its lines are cut.
        place: what messages call the file.
        names: of the columns, where the file has no line for them (it may have one all the same).

    Raises:
        DataError: the first line names no columns and holds no row of url and caption.
    """

    def __init__(
        self, path: Path, dialect: Dialect, place: str, names: Sequence[str] | None = None
    ) -> None:
        self._path = path
        self._place = place
        first = next(_cells(TextLines(path, place), dialect, 0), (0, (), ""))[1]
        self.names = tuple(names or _names_of(first, place))
        self._skips_first = tuple(first) == self.names
        # Tables without a header know no quotes: those of CC12M's captions belong to them.
        self._dialect = dialect if self._skips_first or dialect is not TSV else PLAIN_TSV
        if len(set(self.names)) < len(self.names):
            raise DataError(
                f"{place}: column names must differ, got {', '.join(self.names)}; rename them"
            )

    def nearest(self, row: int) -> int:
        """Give the last row before this one where reading can start: the first one."""
        return 0

    def blocks(self, row: int, batch_rows: int) -> Iterator[ArrowBlock]:
        """Yield all rows from `nearest(row)` on."""
        records = _cells(TextLines(self._path, self._place), self._dialect, len(self.names))
        if self._skips_first:
            next(records)
        rows: list[Sequence[str | None]] = []
        bad: dict[int, str] = {}
        nothing = [None] * len(self.names)
        for number, cells, problem in records:
            if problem:
                bad[len(rows)] = f"line {number}: {problem}"
            rows.append(nothing if problem else cells)
            if len(rows) == batch_rows:
                yield self._block(rows, bad)
                rows, bad = [], {}
        if rows:
            yield self._block(rows, bad)

    def _block(self, rows: Sequence[Sequence[str | None]], bad: dict[int, str]) -> ArrowBlock:
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        return ArrowBlock(pa.RecordBatch.from_arrays(columns, names=list(self.names)), bad)


Record = tuple[int, Sequence[str | None], str]  # line number, cells, problem


def _cells(lines: TextLines, dialect: Dialect, num_cells: int) -> Iterator[Record]:
    """Yield the rows; empty lines are none.

    Args:
        lines: of the file.
        dialect: how they are cut.
        num_cells: that a row must have; 0 takes any number.
    """
    delimiter, has_quotes = dialect.delimiter, dialect.has_quotes
    while item := lines.next():
        number, line = item
        if line is None:
            yield number, (), "longer than 1 MiB"
            continue
        if not line:
            continue
        if has_quotes and '"' in line:
            cells = _quoted(lines, dialect, number, line, num_cells)
        else:
            cells = line.split(delimiter) if delimiter else [line]
        if num_cells and len(cells) != num_cells:
            yield number, (), f"{len(cells)} cells, must have {num_cells}: {line[:_SHOWN]}"
        else:
            yield number, [cell or None for cell in cells], ""


def _quoted(
    lines: TextLines, dialect: Dialect, number: int, line: str, num_cells: int
) -> list[str]:
    """Cut a line that has quotes; where the quotes make no sense they are characters."""
    cells, is_open = _parse(line, dialect.delimiter)
    taken: list[tuple[int, str | None]] = []
    text = line
    while cells is None and is_open and dialect.is_multiline and len(taken) < _MAX_LINES:
        item = lines.next()
        if item is None:
            break
        taken.append(item)
        if item[1] is None:
            break
        text += "\n" + item[1]
        if '"' in item[1]:
            cells, is_open = _parse(text, dialect.delimiter)
    if cells is not None and (not taken or len(cells) == num_cells):
        return cells
    for item in reversed(taken):
        lines.put_back(*item)
    return line.split(dialect.delimiter)


def _parse(text: str, delimiter: str) -> tuple[list[str] | None, bool]:
    """Cut one row by RFC 4180: (cells, False), or (None, whether a quote is still open)."""
    try:
        lines = [f"{line}\n" for line in text.split("\n")]
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return None, "unexpected end of data" in str(error)
    return (rows[0], False) if len(rows) == 1 else (None, False)


def _names_of(first: Sequence[str | None], place: str) -> Sequence[str]:
    """Take the first line as names, or know url and caption where it is a row already."""
    if not first:
        raise DataError(f"{place}: must have rows, got none; set input=PATH")
    cells = [cell or "" for cell in first]
    has_url = tuple(cell.strip().lower().startswith(_WEB) for cell in cells)
    if not any(has_url):
        return cells
    if has_url not in _HEADERLESS:
        raise DataError(
            f"{place}: first line must name the columns, got {', '.join(cells)[:_SHOWN]}; "
            "add such a line"
        )
    return _HEADERLESS[has_url]
