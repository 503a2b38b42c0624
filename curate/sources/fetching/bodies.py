"""Hold bodies that wait for their turn: in memory while the allowance lasts, then in files.

Rows are wanted in order but arrive in any; whatever a slow row holds up, memory stays bounded. The
event loop writes, another thread takes.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from curate.core.errors import SampleError

_PIECE_BYTES = 2**18  # chosen by us: what a socket read gives at most


class Spool:
    """Share an allowance of memory among bodies.

    Args:
        folder: for the files of bodies that find no memory left.
        memory_bytes: the allowance.
    """

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self.folder = folder
        self._left, self._half = memory_bytes, memory_bytes // 2
        self._lock = threading.Lock()

    @property
    def is_half_full(self) -> bool:
        """Say whether half of the memory is taken; the other half is for what is on its way."""
        return self._left < self._half

    def take(self, size: int) -> bool:
        """Take memory if there is enough."""
        with self._lock:
            if self._left < size:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give memory back."""
        with self._lock:
            self._left += size


class Body:
    """Grow one body by chunks.

    Args:
        spool: whose memory it takes.
        name: of its file, unique in the spool.
        max_bytes: of the body.
    """

    __slots__ = ("_max_bytes", "_memory", "_path", "_spool", "size")

    def __init__(self, spool: Spool, name: str, max_bytes: int) -> None:
        self._spool, self._path, self._max_bytes = spool, spool.folder / f"{name}.body", max_bytes
        self._memory = bytearray()
        self.size = 0

    @property
    def _is_in_file(self) -> bool:
        return self.size > len(self._memory)

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises:
            SampleError: "too_many_bytes".
            OSError: the disk is full.
        """
        self.check_size(self.size + len(chunk))
        if not self._is_in_file and self._spool.take(len(chunk)):
            self._memory += chunk
        else:
            self._write_file(chunk)
        self.size += len(chunk)

    def check_size(self, size: int) -> None:
        """Check that so many bytes are allowed.

        Raises:
            SampleError: "too_many_bytes".
        """
        if size > self._max_bytes:
            raise _too_many(self._max_bytes)

    def take(self) -> bytes:
        """Give the bytes and let go of memory and file."""
        data = bytes(self._memory)
        if self._is_in_file:
            data += self._path.read_bytes()
        self.drop()
        return data

    def drop(self) -> None:
        """Let go of memory and file."""
        if self._is_in_file:
            self._path.unlink()
        self._spool.give(len(self._memory))
        self._memory, self.size = bytearray(), 0

    def _write_file(self, chunk: bytes) -> None:
        # Opened for each chunk: thousands of bodies may wait, and files open at once are few. A
        # file that a killed run left behind is replaced.
        with self._path.open("ab" if self._is_in_file else "wb") as file:
            file.write(chunk)


class Inflater:
    """Undo a Content-Encoding piece by piece, so that a bomb is stopped at the body's limit.

    We ask for "identity"; some servers compress regardless.

    Args:
        encoding: the header's value, in lower case.
        max_bytes: of the compressed data, which may be long and hold nothing.

    Raises:
        SampleError: "bad_encoding" for an encoding other than gzip and deflate.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise SampleError("bad_encoding", f"Content-Encoding {encoding!r:.40}")
        self._zlib = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib header
        self._max_bytes = self._left = max_bytes

    @property
    def has_ended(self) -> bool:
        """Say whether the compressed data is whole; what follows it is no part of the body."""
        return self._zlib.eof

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk holds, in pieces of bounded size; nothing once the data has ended.

        Raises:
            SampleError: "bad_encoding", the data is damaged; "too_many_bytes".
        """
        if self.has_ended:  # zlib would gather what follows, and copy all of it for each chunk
            return
        # Nothing beyond the limit is looked at: how chunks are cut must not decide what is raised.
        rest, self._left = chunk[: self._left], self._left - len(chunk)
        try:
            while rest:
                yield self._zlib.decompress(rest, _PIECE_BYTES)
                rest = self._zlib.unconsumed_tail
        except zlib.error as error:
            raise SampleError("bad_encoding", "damaged compressed data") from error
        if self._left < 0 and not self.has_ended:
            raise _too_many(self._max_bytes)


def _too_many(max_bytes: int) -> SampleError:
    return SampleError("too_many_bytes", f"more than {max_bytes} bytes")
