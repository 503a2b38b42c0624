"""Read the lines of a text table, compressed or not, in bounded memory and with their numbers."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

import pyarrow as pa

from curate.core.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # ending -> Arrow's name
_MAX_LINE_BYTES = 2**20  # chosen by us: a longer line is no row of a table of URLs
_BUFFER_BYTES = 2**20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file; a name that ends in .gz, .bz2 or .zst is decompressed."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    return io.BufferedReader(pa.input_stream(str(path), compression=compression), _BUFFER_BYTES)


class TextLines:
    """Give lines one by one, without their ends; bytes that are no UTF-8 become U+FFFD.

    Args:
        path: as for `open_bytes`.
        place: what messages call the file.

    Raises:
        DataError: the text is UTF-16.
    """

    def __init__(self, path: Path, place: str) -> None:
        self._stream = open_bytes(path)
        self._back: deque[tuple[int, str | None]] = deque()
        self._number = 0
        start = self._stream.peek(3)[:3]
        if start[:2] in _UTF16:
            raise DataError(f"{place}: must be UTF-8, got UTF-16; convert it")
        if start == _BOM:
            self._stream.read(3)

    def next(self) -> tuple[int, str | None] | None:
        """Give (number from 1, line), the line None when it is too long; None at the end."""
        if self._back:
            return self._back.popleft()
        line = self._stream.readline(_MAX_LINE_BYTES)
        if not line:
            return None
        self._number += 1
        if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
            self._skip_line()
            return self._number, None
        return self._number, line.decode(errors="replace").rstrip("\r\n")

    def put_back(self, number: int, line: str | None) -> None:
        """Give this line again before those that follow."""
        self._back.appendleft((number, line))

    def _skip_line(self) -> None:
        while line := self._stream.readline(_MAX_LINE_BYTES):
            if line.endswith(b"\n"):
                return
