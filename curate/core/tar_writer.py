"""Write WebDataset tars whose bytes follow from their members alone, digest included.

Headers are plain ustar (whole-second mtime 0, owner 0, mode 644): webdataset's own writer puts a
float mtime into a PAX header, two more blocks a member, and no two of its tars are equal. Payloads
start at multiples of 512 bytes, the data of an `.npy` at multiples of 64.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

import xxhash

from curate.core.errors import ShardError

_BLOCK = tarfile.BLOCKSIZE
_TOO_LONG = 8**11
_SIZE, _CHECKSUM = slice(124, 136), slice(148, 156)  # Source: POSIX.1-2001, pax, ustar header block


@dataclass(frozen=True, slots=True, kw_only=True)
class TarDigest:
    """Tell two states of a tar apart.

    Args:
        num_bytes: size of the file.
        xxh3: xxh3-128 of the file, 16 bytes.
    """

    num_bytes: int
    xxh3: bytes


class TarWriter:
    """Append members to a new tar.

    Args:
        path: of the tar; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("wb")
        self._hash = xxhash.xxh3_128()
        self._size = 0

    def add(self, name: str, data: bytes) -> int:
        """Append a member and give the offset of its payload, in bytes.

        Raises:
            ShardError: the name has capitals, a slash or more than 100 bytes, or the data 8 GiB.
        """
        if name != name.lower() or "/" in name or len(name.encode()) > 100:
            raise ShardError(
                f"{self.path}: member names are lower-case, flat and at most 100 bytes, "
                f"got {name!r}; rename it at ingest"
            )
        if len(data) >= _TOO_LONG:
            raise ShardError(f"{self.path}: {name} must be smaller than 8 GiB, got {len(data)}")
        self._write(_header(name, len(data)))
        offset = self._size
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))
        return offset

    def close(self) -> TarDigest:
        """Write the end of the tar; once."""
        self._write(bytes(2 * _BLOCK))
        self._stream.close()
        return TarDigest(num_bytes=self._size, xxh3=self._hash.digest())

    def abandon(self) -> None:
        """Close the file as it is: a tar without an end."""
        self._stream.close()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._hash.update(data)
        self._size += len(data)


def _header(name: str, size: int) -> bytes:
    """Fill name, size and checksum into a header that is otherwise the same for every member.

    `TarInfo.tobuf` gives the same bytes in five times the time, which small members feel.
    """
    encoded, octal = name.encode(), b"%011o\0" % size
    total = _EMPTY_SUM + sum(encoded) + sum(octal)
    header = bytearray(_EMPTY)
    header[: len(encoded)] = encoded
    header[_SIZE] = octal
    header[_CHECKSUM] = b"%06o\0 " % total
    return bytes(header)


def _empty_header() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o644
    header = bytearray(info.tobuf(format=tarfile.USTAR_FORMAT))
    header[_SIZE] = bytes(12)
    header[_CHECKSUM] = b" " * 8  # as the checksum counts itself
    return bytes(header)


_EMPTY = _empty_header()
_EMPTY_SUM = sum(_EMPTY)
