"""Inflate a file of gzip members, and go on behind a damaged one.

zlib alone says too little: a file that is cut inside a member must not look like a whole one, and
one bad member must not cost those that follow.
"""

from __future__ import annotations

import zlib
from typing import Any, BinaryIO, Literal

MAGIC = b"\x1f\x8b\x08"  # Source: RFC 1952 section 2.3.1, with deflate as the method
_RAW_BYTES = 1 << 16  # read at once; chosen by us: each member copies what is left of it
_DATA_BYTES = 1 << 18  # inflated at once, which bounds a bomb; chosen by us


class Gunzip:
    """Give the inflated bytes of one member after the other.

    Args:
        stream: at the start of the first member.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._raw = b""
        self._raw_offset = 0  # of `_raw` in the file
        self._inflater: Any = None
        self.trouble: Literal["", "cut", "damaged"] = ""
        self.offset = 0  # in the file: of the member that the last bytes came from

    def read(self) -> bytes:
        """Give the next bytes; none at the end of the file and, with `trouble`, before it."""
        while not self.trouble and (self._inflater or self._open_member()):
            if not self._raw and not self._fill():
                self.trouble = "cut"
            elif data := self._inflate():
                return data
        return b""

    def resume(self) -> bool:
        """Go to the next member behind damage; tell whether there is one."""
        if self.trouble != "damaged":
            return False
        self._take(int(self._raw_offset == self.offset))  # not the damaged member itself
        while (found := self._raw.find(MAGIC)) < 0:
            self._take(max(len(self._raw) - len(MAGIC) + 1, 0))
            if not self._fill():
                return False
        self._take(found)
        self._inflater, self.trouble = None, ""
        return True

    def _open_member(self) -> bool:
        """Begin a member; tell whether there is one."""
        while len(self._raw) < len(MAGIC) and self._fill():
            pass
        if not self._raw:
            return False
        self.offset = self._raw_offset
        if self._raw.startswith(MAGIC):
            self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        else:
            self.trouble = "cut" if MAGIC.startswith(self._raw) else "damaged"
        return bool(self._inflater)

    def _inflate(self) -> bytes:
        try:
            data: bytes = self._inflater.decompress(self._raw, _DATA_BYTES)
        except zlib.error:
            self.trouble = "damaged"
            return b""
        left = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
        self._take(len(self._raw) - len(left))
        if self._inflater.eof:
            self._inflater = None
        return data

    def _fill(self) -> bool:
        more = self._stream.read(_RAW_BYTES)
        self._raw += more
        return bool(more)

    def _take(self, size: int) -> None:
        self._raw = self._raw[size:]
        self._raw_offset += size
