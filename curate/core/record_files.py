"""Read ranges of a store's files into the caller's buffers, from many threads.

`LocalFiles` reads files of this machine or of a disk that it mounts; `core/range_cache.py` gives
the same for remote stores.
"""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from curate.core.errors import ShardError

_MAX_OPEN = 256  # chosen by us: a quarter of the usual limit of 1024 open files

Io = Literal["preadv", "mmap"]


class RecordFiles(Protocol):
    """Give byte ranges of files by name.

    `joins_ranges` tells whether ranges near each other are better read by one call.
    """

    joins_ranges: bool

    def preadv(self, name: str, offset: int, buffers: Sequence[memoryview], /) -> None:
        """Fill buffers from consecutive bytes; ShardError where the file ends before."""
        ...

    def read_many(
        self, name: str, offsets: Sequence[int], buffers: Sequence[memoryview], /
    ) -> None:
        """Fill each buffer from its own offset; errors as of `preadv`, some buffers filled."""
        ...

    def size(self, name: str, /) -> int:
        """Give a file's size, in bytes; FileNotFoundError when it is absent."""
        ...

    def will_need(self, name: str, offset: int, length: int, /) -> None:
        """Say that a range will be read soon."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class LocalFiles:
    """Read the files of a folder.

    Args:
        folder: of the store.
        io: "preadv" copies by system calls: steady memory, and a disk's fault is an error; "mmap"
            copies from mapped files, faster for small records on a local disk, but a fault ends
            the process (SIGBUS).
    """

    def __init__(self, folder: Path, io: Io = "preadv") -> None:
        self._folder = folder
        self._is_mapped = io == "mmap"
        self.joins_ranges = not self._is_mapped
        self._open = functools.lru_cache(maxsize=_MAX_OPEN)(self._open_file)

    def preadv(self, name: str, offset: int, buffers: Sequence[memoryview], /) -> None:
        """Fill buffers from consecutive bytes of a file.

        Raises:
            ShardError: the file ends before.
        """
        file = self._open(name)
        if self._is_mapped:
            for buffer in buffers:
                end = offset + len(buffer)
                if end > file.size:
                    raise _ends_before(self._folder / name, end, file.size)
                buffer[:] = file.mapped[offset:end]
                offset = end
            return
        wanted = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        got = os.preadv(file.descriptor, buffers, offset)
        if got != wanted:
            raise _ends_before(self._folder / name, offset + wanted, offset + got)

    def read_many(
        self, name: str, offsets: Sequence[int], buffers: Sequence[memoryview], /
    ) -> None:
        """Fill each buffer from its own offset.

        Raises:
            ShardError: the file ends before.
        """
        file = self._open(name)
        if self._is_mapped:
            mapped = file.mapped
            for offset, buffer in zip(offsets, buffers, strict=True):
                end = offset + len(buffer)
                if end > file.size:
                    raise _ends_before(self._folder / name, end, file.size)
                buffer[:] = mapped[offset:end]
            return
        descriptor, preadv = file.descriptor, os.preadv
        for offset, buffer in zip(offsets, buffers, strict=True):
            got = preadv(descriptor, (buffer,), offset)
            if got != len(buffer):
                raise _ends_before(self._folder / name, offset + len(buffer), offset + got)

    def size(self, name: str, /) -> int:
        """Give a file's size, in bytes."""
        return (self._folder / name).stat().st_size

    def will_need(self, name: str, offset: int, length: int, /) -> None:
        """Let the kernel begin to read a range."""
        file = self._open(name)  # held by name: its descriptor is open as long as it is
        os.posix_fadvise(file.descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Close the files as soon as no thread reads them."""
        self._open.cache_clear()

    def _open_file(self, name: str) -> _OpenFile:
        return _OpenFile(self._folder / name, is_mapped=self._is_mapped)


class _OpenFile:
    """Hold a descriptor until its last user lets go: one thread may drop it while another reads."""

    __slots__ = ("descriptor", "mapped", "size")

    def __init__(self, path: Path, *, is_mapped: bool) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.descriptor).st_size
        self.mapped = memoryview(b"")
        if is_mapped and self.size:
            self.mapped = memoryview(mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ))

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # absent where the file could not be opened
            os.close(self.descriptor)


def _ends_before(path: Path, wanted: int, got: int) -> ShardError:
    return ShardError(
        f"{path}: must reach to byte {wanted}, got {got}; the file was cut, run encode again"
    )
