"""Read JSON lines, one object each; a line that is none keeps its place and its reason.

Python's own parser, a line at a time: Arrow's infers one type a column from the first block and
ends at the first line that has another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from curate.core.errors import DataError
from curate.sources.nesting import MAX_DEPTH, nests_too_deeply
from curate.sources.tables.row_block import ObjectBlock
from curate.sources.tables.text_lines import TextLines, open_bytes

_NAMED_ROWS = 100  # whose keys tell the columns; chosen by us
_MAX_ARRAY_BYTES = 2**28  # chosen by us: an array is read whole
_SHOWN = 200
_TOO_DEEP = f"nested deeper than {MAX_DEPTH}"


class JsonLinesReader:
    """Read a table of JSON objects from its start: one a line, or one array of them.

    Args:
        path: of the file.
        place: what messages call the file.
        may_be_array: a file that starts with a bracket is one array, which is read whole.

    Raises:
        DataError: the file holds no object, or an array that is too large or broken.
    """

    def __init__(self, path: Path, place: str, *, may_be_array: bool = False) -> None:
        self._path = path
        self._place = place
        with open_bytes(path) as stream:
            self._is_array = may_be_array and stream.peek(1024).lstrip()[:1] == b"["
        rows = [row for row, problem in islice(self._rows(), _NAMED_ROWS) if not problem]
        self.names = tuple(dict.fromkeys(name for row in rows for name in row))
        if not self.names:
            raise DataError(
                f"{place}: must have a JSON object among its first {_NAMED_ROWS} rows, got none; "
                "set input=PATH"
            )

    def nearest(self, row: int) -> int:
        """Give the last row before this one where reading can start: the first one."""
        return 0

    def blocks(self, row: int, batch_rows: int) -> Iterator[ObjectBlock]:
        """Yield all rows from `nearest(row)` on."""
        found = self._rows()
        while some := list(islice(found, batch_rows)):
            bad = {index: problem for index, (_, problem) in enumerate(some) if problem}
            yield ObjectBlock([row for row, _ in some], bad)

    def _rows(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Yield (row, what is wrong with it)."""
        if self._is_array:
            yield from self._array()
            return
        lines = TextLines(self._path, self._place)
        while item := lines.next():
            number, line = item
            if line is None:
                yield {}, f"line {number}: longer than 1 MiB"
            elif line.strip():
                row, problem = _object(line)
                yield row, problem and f"line {number}: {problem}: {line[:_SHOWN]}"

    def _array(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        with open_bytes(self._path) as stream:
            data = stream.read(_MAX_ARRAY_BYTES + 1)
        if len(data) > _MAX_ARRAY_BYTES:
            raise DataError(
                f"{self._place}: a JSON array must have at most {_MAX_ARRAY_BYTES} bytes, got "
                "more; convert it to one object a line"
            )
        try:
            found: list[Any] = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self._place}: must be JSON lines or a JSON array, got {error}; replace it"
            ) from error
        for index, value in enumerate(found):
            if nests_too_deeply(value):
                yield {}, f"item {index}: {_TOO_DEEP}"
            elif isinstance(value, dict):
                yield _clean(value), ""
            else:
                yield {}, f"item {index}: no JSON object: {str(value)[:_SHOWN]}"


def _object(line: str) -> tuple[Mapping[str, Any], str]:
    try:
        value = json.loads(line)
    except RecursionError:
        return {}, _TOO_DEEP
    except ValueError as error:
        return {}, f"no JSON ({str(error).splitlines()[0]})"
    if nests_too_deeply(value):
        return {}, _TOO_DEEP
    if not isinstance(value, dict):
        return {}, "no JSON object"
    # Only an escape can spell half a surrogate pair, which no UTF-8 file can hold.
    return (_clean(value) if "\\ud" in line.lower() else value), ""


def _clean(value: Any) -> Any:
    """Replace halves of surrogate pairs."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_clean(name): _clean(item) for name, item in value.items()}
        case list():
            return [_clean(item) for item in value]
        case _:
            return value
