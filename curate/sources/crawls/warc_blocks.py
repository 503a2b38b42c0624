"""Cut a WARC or WAT file into records, and say where it cannot be: cut, damaged or malformed.

    file -> inflated stretches (`gunzip.py`) -> header, Content-Length -> Block, or a Loss

warcio reads the records (`warc_pages.py`). Their framing is ours, because its iterator takes a
file that is cut inside a gzip member for a whole one, ends at the first malformed record and
reports damage on stderr. Here the others survive a bad record: reading goes on at the next line
that begins with `WARC/`, or with the next gzip member.

A file that was cut between two records, or two gzip members, looks like a whole one.
Memory: one record of at most `MAX_RECORD_BYTES`.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from curate.sources.crawls.gunzip import MAGIC, Gunzip

MAX_RECORD_BYTES = 32 << 20
"""Bytes of a record that are read; chosen by us: Common Crawl cuts pages at 5 MiB."""

_MAX_HEADER_BYTES = 64 << 10  # chosen by us: Common Crawl's have some 600 bytes
_CHUNK_BYTES = 1 << 18
_START = b"WARC/"  # Source: ISO 28500 section 4
_GAP = b"\r\n\r\n"
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_NOT_BLANK = re.compile(rb"[^\r\n]")
_KIND = re.compile(rb"^warc-type:[ \t]*(\w+)", re.IGNORECASE | re.MULTILINE)

LossStatus = Literal["cut_file", "bad_record", "large_page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Hold one record.

    Args:
        offset: in the file, in bytes: of the record, or of the gzip member that holds it.
        kind: its WARC-Type in lower case.
        data: header and body.
        is_short: whether the body is longer than `MAX_RECORD_BYTES` and was cut there by us.
    """

    offset: int
    kind: str
    data: bytes
    is_short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Say what could not be read: where in the file it begins, in bytes, and what was seen."""

    status: LossStatus
    offset: int
    detail: str


def read_blocks(stream: BinaryIO) -> Iterator[Block | Loss]:
    """Yield a file's records in order; gzip, by record or as a whole, and plain files alike."""
    head = stream.read(len(MAGIC))
    stream.seek(0)
    source = Gunzip(stream) if head and MAGIC.startswith(head) else _Plain(stream)
    while True:
        unfinished = yield from _cut_stretch(_Window(source))
        if source.trouble == "damaged":
            where = unfinished or Loss(status="bad_record", offset=source.offset, detail="")
            yield Loss(status="bad_record", offset=where.offset, detail="damaged gzip data")
        elif unfinished:
            yield unfinished
        elif source.trouble == "cut":
            yield Loss(status="cut_file", offset=source.offset, detail="ends in a gzip member")
        if not source.resume():
            return


class _Plain:
    """Read an uncompressed file as `Gunzip` reads a compressed one."""

    trouble: Literal["", "cut", "damaged"] = ""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.offset = 0

    def read(self) -> bytes:
        self.offset = self._stream.tell()
        return self._stream.read(_CHUNK_BYTES)

    def resume(self) -> bool:
        return False


class _Window:
    """Look at the next bytes of a stretch without taking them."""

    def __init__(self, source: Gunzip | _Plain) -> None:
        self._source = source
        self._marks = [(0, 0)]  # where a chunk begins: from the window's start, and in the file
        self.data = bytearray()

    @property
    def offset(self) -> int:
        """Give the window's place in the file."""
        start, offset = self._marks[0]
        return offset if isinstance(self._source, Gunzip) else offset - start

    def fill(self, size: int) -> bool:
        """Have so many bytes at hand; tell whether there are."""
        while len(self.data) < size and (more := self._source.read()):
            self._marks.append((len(self.data), self._source.offset))
            self.data += more
        self._forget()
        return len(self.data) >= size

    def drop(self, size: int) -> None:
        """Go on by so many bytes, which are at hand."""
        del self.data[:size]
        self._marks = [(start - size, offset) for start, offset in self._marks]
        self._forget()

    def drop_unread(self, size: int) -> bool:
        """Go on by so many bytes; tell whether there were as many."""
        while size and self.fill(1):
            step = min(size, len(self.data))
            self.drop(step)
            size -= step
        return not size

    def _forget(self) -> None:
        while len(self._marks) > 1 and self._marks[1][0] <= 0:
            del self._marks[0]


def _cut_stretch(window: _Window) -> Generator[Block | Loss, None, Loss | None]:
    """Yield the records of one stretch; return what its end left unfinished."""
    while _skip_blank_lines(window):
        block = _take(window)
        if isinstance(block, Loss):
            offset = window.offset
            has_more = _skip_to_record(window)
            if block.status == "cut_file" and not has_more:
                return block
            yield Loss(status="bad_record", offset=offset, detail=block.detail)
        else:
            yield block
    return None


def _take(window: _Window) -> Block | Loss:
    """Take one record, or say what is wrong with it and take nothing."""
    is_end = not window.fill(_MAX_HEADER_BYTES)
    offset, head = window.offset, _HEADER_END.search(window.data, 0, _MAX_HEADER_BYTES)
    seen = bytes(window.data[:20])
    if not seen.startswith(_START) and not _START.startswith(seen):
        return Loss(status="bad_record", offset=offset, detail=f"no WARC record: {seen!r}")
    if not head:
        status: LossStatus = "cut_file" if is_end else "bad_record"
        return Loss(status=status, offset=offset, detail="a header without end")
    header = bytes(window.data[: head.end()])
    length, kind = _LENGTH.search(header), _KIND.search(header)
    if not length or not kind:
        missing = "WARC-Type" if length else "Content-Length"
        return Loss(status="bad_record", offset=offset, detail=f"a header without {missing}")
    size = head.end() + int(length[1])
    kept = min(size, MAX_RECORD_BYTES)
    if not window.fill(kept):
        detail = f"ends after {len(window.data)} of a record's {size} bytes"
        return Loss(status="cut_file", offset=offset, detail=detail)
    if not _ends_at(window, size):
        detail = f"a body that is not the {int(length[1])} bytes of its Content-Length"
        return Loss(status="bad_record", offset=offset, detail=detail)
    data = bytes(window.data[:kept])
    window.drop(kept)
    if not window.drop_unread(size - kept):
        return Loss(status="cut_file", offset=offset, detail=f"ends in a record of {size} bytes")
    return Block(offset=offset, kind=kind[1].decode().lower(), data=data, is_short=kept < size)


def _ends_at(window: _Window, size: int) -> bool:
    """Tell whether a record may end here; those too long to look are believed.

    Two line breaks have to follow; fewer are taken where another record or the end does.
    """
    if size > MAX_RECORD_BYTES:
        return True
    window.fill(size + len(_GAP) + len(_START))
    rest = bytes(window.data[size : size + len(_GAP) + len(_START)])
    return rest.startswith(_GAP) or _START.startswith(rest.lstrip(b"\r\n")[: len(_START)])


def _skip_blank_lines(window: _Window) -> bool:
    """Go to the next byte that is no line break; tell whether there is one."""
    while window.fill(1):
        found = _NOT_BLANK.search(window.data)
        window.drop(found.start() if found else len(window.data))
        if found:
            return True
    return False


def _skip_to_record(window: _Window) -> bool:
    """Go to the next line that begins a record, behind the first byte; tell if there is one."""
    sought = b"\n" + _START
    while (found := window.data.find(sought)) < 0:
        size = max(len(window.data) - len(sought) + 1, 0)
        window.drop(size)
        if not window.fill(len(window.data) + 1):
            window.drop(len(window.data))
            return False
    window.drop(found + 1)
    return True
