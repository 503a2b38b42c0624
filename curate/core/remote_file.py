"""Read a remote file by ranges through Python's own file protocol."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any


class RangeFile(io.RawIOBase):
    """Ask for each range as it is read; wrap it in io.BufferedReader to make ranges larger.

    Args:
        read_range: (name, start, stop) -> exactly those bytes.
        name: of the file.
        size: of the file in bytes.
    """

    def __init__(self, read_range: Callable[[str, int, int], bytes], name: str, size: int) -> None:
        super().__init__()
        self.name = name
        self._read_range = read_range
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that the position can be set."""
        return True

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; one behind the end reads as empty."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"{self.name}: position must be >= 0, got {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer by one request."""
        view = memoryview(buffer).cast("B")
        data = self._next(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read the rest by one request."""
        return self._next(self._size)

    def _next(self, size: int) -> bytes:
        stop = min(self._position + size, self._size)
        if stop <= self._position:
            return b""
        data = self._read_range(self.name, self._position, stop)
        self._position = stop
        return data
